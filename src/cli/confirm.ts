import { createInterface } from "node:readline/promises";
import { UsageError } from "../domain/errors.ts";
import type { CliContext } from "./context.ts";

/** Asks before something is lost. @throws UsageError when there is nobody to ask, or the answer is not yes. */
export async function confirm(context: CliContext, question: string, yes: boolean): Promise<void> {
  if (yes) return;
  if (context.stdin.isTTY !== true) {
    throw new UsageError(`${question} Nobody is there to answer.`, { hint: "say so with --yes" });
  }
  context.out.note(`${question} [y/N]`);
  const lines = createInterface({ input: context.stdin });
  try {
    const answer = await lines.question("", { signal: context.signal });
    if (!/^y(?:es)?$/i.test(answer.trim())) throw new UsageError("nothing was done");
  } finally {
    lines.close();
  }
}
