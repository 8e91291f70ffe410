import type { NodeResult } from "../../../coordinator/fleet.ts";
import { describeError } from "../../../domain/errors.ts";
import type { CliContext } from "../../context.ts";
import { exitCodeOf } from "../../exit-codes.ts";

/** Prints a result for each node; the exit code is that of the first that failed. */
export function reportResults<T>(
  context: CliContext,
  results: readonly NodeResult<T>[],
  json: boolean,
  render: (result: T) => string,
): void {
  if (json) {
    context.out.json(
      results.map((result) =>
        result.ok
          ? { node: result.node, ok: true, result: result.result }
          : {
              node: result.node,
              ok: false,
              error: {
                code: result.error.code,
                message: describeError(result.error),
                hint: result.error.hint ?? null,
              },
            },
      ),
    );
  } else {
    for (const result of results) {
      if (result.ok) {
        const text = render(result.result);
        context.out.data(`${result.node}:${text.startsWith("\n") ? "" : " "}${text}`);
      } else {
        context.out.note(`${result.node}: FAILED: ${describeError(result.error)}`);
        if (result.error.hint !== undefined) context.out.note(`  next: ${result.error.hint}`);
      }
    }
  }
  const failed = results.find((result) => !result.ok);
  if (failed !== undefined && !failed.ok) context.exitWith(exitCodeOf(failed.error));
}
