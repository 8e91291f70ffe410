import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../../context.ts";
import { table } from "../../output.ts";
import { jsonFlag } from "../../parameters.ts";

/** `mvm coordinator ca list` */
export const caList: Command<CliContext> = buildCommand<{ json: boolean }, [], CliContext>({
  docs: { brief: "List the certificates that this CA issued" },
  parameters: { flags: jsonFlag },
  async func({ json }) {
    const issued = await (await this.authority()).issued();
    if (json) {
      this.out.json(issued);
      return;
    }
    const rows = issued.map(({ serial, role, id, expires_at, revoked_at }) => [
      serial,
      role,
      id,
      expires_at,
      revoked_at ?? "-",
    ]);
    this.out.data(table(["SERIAL", "ROLE", "ID", "ENDS", "REVOKED"], rows));
  },
});
