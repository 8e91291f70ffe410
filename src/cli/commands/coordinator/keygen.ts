import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../../context.ts";

/** `mvm coordinator keygen` */
export const coordinatorKeygen: Command<CliContext> = buildCommand<object, [], CliContext>({
  docs: {
    brief: "Make the key that signs desired-state documents",
    fullDescription:
      "An Ed25519 key pair in the coordinator's folder. Nodes are given the public half: mvm add host --signing-key coordinator.pub. A key that is there is never overwritten.",
  },
  parameters: {},
  async func() {
    const { publicKey, path } = await (await this.signingKeys()).generate();
    this.out.data(publicKey);
    this.out.note(`public key in ${path}; next, on each node: mvm add host --signing-key ${path}`);
  },
});
