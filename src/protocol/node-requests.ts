import * as z from "zod/mini";
import { UsageError } from "../domain/errors.ts";

/** The name and version of the conversation between a node and who asks it. */
export const nodeProtocol = "mvm-node";
export const nodeProtocolVersion = 1;

/** Who may ask: by its certificate, or `local` by the node's Unix socket. */
export type NodeRole = "coordinator" | "node" | "local";

/** What each operation carries beside `id` and `op`. */
export interface NodeParameters {
  /** Development only: a document that nobody signed. */
  readonly Reconcile: { readonly desired: unknown; readonly wait?: boolean | undefined };
  /** `signed` is the signed form of protocol/signed-desired.ts, which is checked there. */
  readonly ReconcileSigned: { readonly signed: unknown; readonly wait?: boolean | undefined };
  /** Without a document the plan of the one in force. */
  readonly Plan: { readonly desired?: unknown; readonly signed?: unknown };
  readonly NodeInfo: object;
  readonly NodeStats: object;
  readonly TenantList: object;
  readonly InstanceList: { readonly tenant_id?: string | undefined };
  /** Answered when the instance runs. */
  readonly WakeInstance: { readonly instance: string };
  /** Without a tenant the node's own events. */
  readonly Events: { readonly tenant_id?: string | undefined; readonly last?: number | undefined };
  readonly SecretsSet: {
    readonly tenant_id: string;
    readonly secrets: Readonly<Record<string, string>>;
  };
  /** The node makes its next key and a request for its certificate, both PEM. */
  readonly CertificateRequest: object;
  /** PEM: the certificate that answers the last request, the CA's newest revocation list, or both. */
  readonly CertificateInstall: {
    readonly certificate?: string | undefined;
    readonly revocations?: string | undefined;
  };
}

export type NodeOperation = keyof NodeParameters;

/** One request, as it is after parsing. */
export type NodeRequest = {
  readonly [Op in NodeOperation]: {
    readonly id: number;
    readonly op: Op;
    readonly parameters: NodeParameters[Op];
  };
}[NodeOperation];

/** The first frame of each side of a connection. */
export interface NodeHello {
  readonly id: number;
  readonly op: "Hello";
  readonly protocol: string;
  readonly version: number;
  readonly role: string;
}

const name = z.string().check(z.minLength(1), z.maxLength(63));
const pem = z.string().check(z.minLength(1), z.maxLength(262_144));
const maxEvents = 1000;
const maxSecrets = 1000;

interface Row<Parameters> {
  readonly roles: readonly NodeRole[];
  /** Made when first asked for: most commands speak to no node. */
  readonly schema: () => z.ZodMiniType<Parameters>;
}

const fleet: readonly NodeRole[] = ["coordinator", "local"];
const everybody: readonly NodeRole[] = ["coordinator", "node", "local"];
const wait = z.optional(z.boolean());

/** All operations of a node, closed: who may call each, and what it takes. */
export const nodeOperations: { readonly [Op in NodeOperation]: Row<NodeParameters[Op]> } = {
  Reconcile: {
    roles: fleet,
    schema: () => z.strictObject({ desired: z.unknown(), wait }),
  },
  ReconcileSigned: {
    roles: fleet,
    schema: () => z.strictObject({ signed: z.unknown(), wait }),
  },
  Plan: {
    roles: fleet,
    schema: () =>
      z.strictObject({ desired: z.optional(z.unknown()), signed: z.optional(z.unknown()) }),
  },
  NodeInfo: { roles: everybody, schema: () => z.strictObject({}) },
  NodeStats: { roles: everybody, schema: () => z.strictObject({}) },
  TenantList: { roles: fleet, schema: () => z.strictObject({}) },
  InstanceList: { roles: fleet, schema: () => z.strictObject({ tenant_id: z.optional(name) }) },
  WakeInstance: {
    roles: fleet,
    schema: () => z.strictObject({ instance: z.string().check(z.maxLength(200)) }),
  },
  Events: {
    roles: fleet,
    schema: () =>
      z.strictObject({
        tenant_id: z.optional(name),
        last: z.optional(z.int().check(z.gte(1), z.lte(maxEvents))),
      }),
  },
  SecretsSet: {
    roles: fleet,
    schema: () =>
      z.strictObject({
        tenant_id: name,
        secrets: z
          .record(z.string().check(z.maxLength(256)), z.string().check(z.maxLength(65_536)))
          .check(
            z.refine((secrets) => Object.keys(secrets).length <= maxSecrets, "too many secrets"),
          ),
      }),
  },
  CertificateRequest: { roles: fleet, schema: () => z.strictObject({}) },
  CertificateInstall: {
    roles: fleet,
    schema: () => z.strictObject({ certificate: z.optional(pem), revocations: z.optional(pem) }),
  },
};

const requestId = z.int().check(z.gte(0), z.lte(Number.MAX_SAFE_INTEGER));

const headSchema: z.ZodMiniType<{ readonly id: number; readonly op: string }> = z.lazy(() =>
  z.looseObject({ id: requestId, op: z.string().check(z.maxLength(64)) }),
);

const helloSchema: z.ZodMiniType<NodeHello> = z.lazy(() =>
  z.strictObject({
    id: requestId,
    op: z.literal("Hello"),
    protocol: z.string().check(z.maxLength(64)),
    version: z.int(),
    role: z.string().check(z.maxLength(64)),
  }),
);

/** The id and operation of what looks like a request; undefined when it is none, and then there is nothing to answer to. */
export function headOf(value: unknown): { readonly id: number; readonly op: string } | undefined {
  const parsed = headSchema.safeParse(value);
  return parsed.success ? { id: parsed.data.id, op: parsed.data.op } : undefined;
}

/** @throws UsageError when it is no Hello of this form. */
export function parseHello(value: unknown): NodeHello {
  const parsed = helloSchema.safeParse(value);
  if (!parsed.success) throw invalid("Hello", parsed.error.issues);
  return parsed.data;
}

export function isNodeOperation(op: string): op is NodeOperation {
  return Object.hasOwn(nodeOperations, op);
}

/** @throws UsageError naming the unknown operation, or every field that is missing, wrong or unknown. */
export function parseNodeRequest(value: unknown): NodeRequest {
  const head = headOf(value);
  if (head === undefined) throw new UsageError("a request has an id and an op");
  const { id, op } = head;
  if (!isNodeOperation(op)) throw new UsageError(`unknown operation ${JSON.stringify(op)}`);
  const { id: _, op: __, ...rest } = value as Readonly<Record<string, unknown>>;
  const parsed = nodeOperations[op].schema().safeParse(rest);
  if (!parsed.success) throw invalid(op, parsed.error.issues);
  // The schema of a row gives the parameters of its operation, which TypeScript cannot follow here.
  return { id, op, parameters: parsed.data } as NodeRequest;
}

function invalid(op: string, issues: readonly z.core.$ZodIssue[]): UsageError {
  const places = issues.map((issue) => {
    const keys = issue.code === "unrecognized_keys" ? issue.keys.join(", ") : "";
    const place = [issue.path.map(String).join("."), keys].filter((part) => part !== "").join(": ");
    return `${issue.code} ${place}`.trim();
  });
  return new UsageError(`${op}: ${places.join("; ")}`.slice(0, 1000));
}
