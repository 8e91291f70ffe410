import { type Command, buildCommand } from "@stricli/core";
import { parseSigningKey } from "../../domain/signing-key.ts";
import type { PrepareOptions } from "../../ports/host-setup.ts";
import type { CliContext } from "../context.ts";
import { readInput } from "../read-input.ts";

interface Flags {
  readonly ca?: string;
  readonly signingKey?: string;
  readonly production: boolean;
  readonly vmm: PrepareOptions["vmm"];
}

/** `mvm add host` */
export const addHost: Command<CliContext> = buildCommand<Flags, [], CliContext>({
  docs: {
    brief: "Prepare this machine to be a node",
    fullDescription:
      "Installs what is missing, prepares kernel, guest base, builder and payloads, finds how microVMs run here by booting one, and makes the node's id and identity: with --ca a key and a signing request for that CA, without it a certificate of a development CA of its own. An identity that is there is never overwritten. Safe to run again: it changes only what is missing.",
  },
  parameters: {
    flags: {
      ca: {
        kind: "parsed",
        parse: String,
        optional: true,
        brief: "Certificate of the CA that this node belongs to, as PEM",
        placeholder: "file",
      },
      signingKey: {
        kind: "parsed",
        parse: String,
        optional: true,
        brief: "A coordinator's public key to believe: base64 of 32 bytes",
        placeholder: "file",
      },
      production: {
        kind: "boolean",
        default: false,
        withNegated: false,
        brief: "Be strict from now on: what is promised and cannot be kept is refused",
      },
      vmm: {
        kind: "enum",
        values: ["auto", "firecracker", "qemu"],
        default: "auto",
        brief: "What runs microVMs; this version has QEMU",
      },
    },
  },
  async func({ ca, signingKey, production, vmm }) {
    const read = async (path: string, what: string, maxBytes: number): Promise<string> =>
      (await readInput(this.stdin, path, { what, maxBytes })).toString("utf8");
    const options: PrepareOptions = {
      production,
      vmm,
      ...(ca === undefined ? {} : { caCertificate: await read(ca, "the CA", 64 * 1024) }),
      ...(signingKey === undefined
        ? {}
        : { signingKey: parseSigningKey(await read(signingKey, "the signing key", 1024)) }),
    };
    const host = await this.host();
    const done = await host.prepare(options, this.signal);
    for (const line of done) this.out.data(line);
    this.out.data("this machine is a node; next: mvm new openclaw <name>");
  },
});
