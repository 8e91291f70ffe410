import { parseEndpoint } from "../../../domain/endpoint.ts";
import type { DialTarget } from "../../../ports/transport.ts";

const defaultPort = 4433;

/** Parses `host[:port]` or `id@host[:port]`. @throws UsageError */
function parseTarget(text: string): DialTarget {
  const at = text.indexOf("@");
  const nodeId = at < 0 ? undefined : text.slice(0, at);
  return { ...parseEndpoint(text.slice(at + 1), defaultPort), nodeId };
}

interface NodeFlag {
  readonly kind: "parsed";
  readonly parse: (text: string) => DialTarget;
  readonly variadic: true;
  readonly brief: string;
  readonly placeholder: string;
}

const flag: NodeFlag = {
  kind: "parsed",
  parse: parseTarget,
  variadic: true,
  brief: "Address of a node, host[:port] or id@host[:port]; may be given again",
  placeholder: "node",
};

/** The nodes that a command speaks to. */
export const nodeFlag: { readonly node: NodeFlag } = { node: flag };

export const optionalNodeFlag: { readonly node: NodeFlag & { readonly optional: true } } = {
  node: { ...flag, optional: true },
};
