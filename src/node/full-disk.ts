import { isDiskFull } from "../domain/errors.ts";
import type { NodeContext } from "./context.ts";

/**
 * Runs a command that ends something. On a full disk neither its audit line nor its record could be
 * written, and what fills the disk could not be ended: then the space that is kept back is given up and
 * the command is run once more. It goes on from where it stopped, as after a crash.
 */
export async function withReserve<T>(context: NodeContext, work: () => Promise<T>): Promise<T> {
  const result = await work().catch(async (error: unknown) => {
    if (!isDiskFull(error) || !(await context.reserve.release())) throw error;
    context.onProgress("the disk is full: going on with the space that is kept back for this");
    return await work();
  });
  await context.reserve.keep();
  return result;
}
