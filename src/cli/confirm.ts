import { UsageError } from "../domain/errors.ts";
import type { CliContext } from "./context.ts";

/**
 * Asks before something is lost. @throws UsageError when there is nobody to ask, or the answer is
 * not yes, or the input ends or the signal comes before there is one.
 */
export async function confirm(
  context: Pick<CliContext, "stdin" | "out" | "signal">,
  question: string,
  yes: boolean,
): Promise<void> {
  if (yes) return;
  if (context.stdin.isTTY !== true) {
    throw new UsageError(`${question} Nobody is there to answer.`, { hint: "say so with --yes" });
  }
  const { createInterface } = await import("node:readline/promises");
  if (context.signal.aborted) throw new UsageError("nothing was done");
  context.out.note(`${question} [y/N]`);
  const lines = createInterface({ input: context.stdin });
  // A question stays open when its input ends, so that is waited for too.
  const closed = Promise.withResolvers<string>();
  lines.once("close", () => closed.resolve(""));
  const close = (): void => lines.close();
  context.signal.addEventListener("abort", close, { once: true });
  try {
    const answer = await Promise.race([lines.question(""), closed.promise]);
    if (!/^y(?:es)?$/i.test(answer.trim())) throw new UsageError("nothing was done");
  } finally {
    context.signal.removeEventListener("abort", close);
    lines.close();
  }
}
