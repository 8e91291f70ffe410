import { type Command, buildCommand } from "@stricli/core";
import { UsageError } from "../../domain/errors.ts";
import type { AuditLogName } from "../../domain/audit.ts";
import type { AuditVerdict } from "../../ports/audit.ts";
import type { CliContext } from "../context.ts";
import { notTrustedExitCode } from "../exit-codes.ts";
import { auditLogArgument, jsonFlag, wholeNumber } from "../parameters.ts";
import { renderEvent } from "../render-event.ts";

interface Flags {
  readonly last: number;
  readonly follow: boolean;
  readonly verify: boolean;
  readonly json: boolean;
}

/** `mvm events` */
export const events: Command<CliContext> = buildCommand<Flags, [AuditLogName], CliContext>({
  docs: {
    brief: "Show the audit trail of a tenant or of the node, or verify it",
    fullDescription:
      "Shows what happened to a tenant, oldest first; also of one that was destroyed; with @node what happened to the node itself, such as documents that were refused. With --verify, checks that every line is what was written, in order, and that none is missing; ends with exit code 6 and names the lines when not.",
  },
  parameters: {
    positional: auditLogArgument,
    flags: {
      last: {
        kind: "parsed",
        parse: wholeNumber(0, 100_000),
        default: "20",
        brief: "How many lines at the most",
      },
      follow: { kind: "boolean", default: false, brief: "Go on with what comes, until Ctrl-C" },
      verify: {
        kind: "boolean",
        default: false,
        brief: "Instead, check the chain of lines and its signed head",
      },
      ...jsonFlag,
    },
  },
  async func({ last, follow, verify, json }, tenant) {
    if (verify && follow) throw new UsageError("--verify and --follow exclude each other");
    const node = await this.node();
    if (verify) {
      reportVerdict(this, tenant, await node.verifyEvents(tenant), json);
      return;
    }
    const found = await node.events(tenant, last);
    // A stream has no end to close a list with: each line is one object then.
    if (json && !follow) this.out.json(found);
    else {
      for (const entry of found) {
        this.out.data(json ? JSON.stringify(entry) : renderEvent(entry));
      }
    }
    if (!follow) return;
    const after = found.at(-1)?.sequence ?? (await node.events(tenant, 1)).at(-1)?.sequence ?? 0;
    await node.followEvents(tenant, after, (entry) => {
      this.out.data(json ? JSON.stringify(entry) : renderEvent(entry));
    });
  },
});

function reportVerdict(
  context: CliContext,
  tenant: AuditLogName,
  verdict: AuditVerdict,
  json: boolean,
): void {
  const { lines, head, problems } = verdict;
  if (json) context.out.json({ verified: problems.length === 0, ...verdict });
  else if (problems.length === 0) {
    context.out.data(
      `${tenant}: ${lines} lines verified, the head was signed at ${head?.signed_at ?? "-"}`,
    );
  }
  if (problems.length === 0) return;
  for (const { line, problem } of problems) {
    context.out.note(`${line === null ? "log" : `line ${line}`}: ${problem}`);
  }
  context.exitWith(notTrustedExitCode);
}
