import type { CorruptFile } from "../ports/store.ts";
import type { Output } from "./output.ts";

/** Says which records cannot be used: what they stand for is missing from what is shown. */
export function noteCorrupt(out: Output, corrupt: readonly CorruptFile[]): void {
  for (const { path, problem } of corrupt) out.note(`CORRUPT ${path}: ${problem}`);
}
