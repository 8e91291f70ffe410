import type { CliContext } from "./context.ts";

/** Says what an update changed, or would change. */
export function reportChanges(
  context: CliContext,
  report: {
    readonly object: string;
    readonly changes: readonly string[];
    readonly dryRun: boolean;
    readonly json: boolean;
  },
): void {
  const { object, changes, dryRun, json } = report;
  if (json) context.out.json({ object, changes, dry_run: dryRun });
  else if (changes.length === 0) context.out.data(`${object} is as asked already`);
  else for (const change of changes) context.out.data(change);
}
