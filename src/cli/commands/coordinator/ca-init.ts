import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../../context.ts";

/** `mvm coordinator ca init` */
export const caInit: Command<CliContext> = buildCommand<{ name: string }, [], CliContext>({
  docs: {
    brief: "Make the CA of a fleet, and this coordinator's own certificate",
    fullDescription:
      "Prints the CA's certificate, which each node is added with: mvm add host --ca ca.crt. A CA that is there is never overwritten.",
  },
  parameters: {
    flags: {
      name: {
        kind: "parsed",
        parse: String,
        default: "coordinator",
        brief: "Name of this coordinator, as nodes write it down",
        placeholder: "name",
      },
    },
  },
  async func({ name }) {
    const pem = await (await this.authority()).init(name, Date.now());
    this.out.data(pem.trim());
    this.out.note("next, on each node: mvm add host --ca ca.crt, with the certificate above");
  },
});
