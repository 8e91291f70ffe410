import { type Command, buildCommand } from "@stricli/core";
import type { TenantId } from "../../../domain/ids.ts";
import { parseTenantKey } from "../../../domain/tenant-key.ts";
import { confirm } from "../../confirm.ts";
import type { CliContext } from "../../context.ts";
import { fromFileFlag, replaceKeyFlag, tenantArgument, yesFlag } from "../../parameters.ts";
import { readInput } from "../../read-input.ts";
import { describeKey } from "./key-status.ts";

const maxKeyFileBytes = 1024;

interface Flags {
  readonly fromFile: string;
  readonly force: boolean;
  readonly yes: boolean;
}

/** `mvm tenant key import` */
export const tenantKeyImport: Command<CliContext> = buildCommand<Flags, [TenantId], CliContext>({
  docs: {
    brief: "Put a tenant's key from elsewhere in place",
    fullDescription:
      "Takes 32 bytes, or 64 hex digits, from a file or standard input. With --force a key that is there is replaced: snapshots and encrypted data disks that were made with it can never be read again.",
  },
  parameters: {
    positional: tenantArgument,
    flags: {
      ...fromFileFlag("File with the key; - for standard input"),
      ...replaceKeyFlag,
      ...yesFlag,
    },
  },
  async func({ fromFile, force, yes }, tenant) {
    const bytes = await readInput(this.stdin, fromFile, {
      what: "the key",
      maxBytes: maxKeyFileBytes,
    });
    const key = parseTenantKey(bytes);
    const node = await this.node();
    if (force && (await node.tenantKey(tenant)).present) {
      await confirm(this, `Replace the key of ${tenant}? What it encrypted is lost.`, yes);
    }
    this.out.data(describeKey(tenant, await node.importTenantKey(tenant, key, force)));
  },
});
