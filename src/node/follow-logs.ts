import { ConflictError, OperationError } from "../domain/errors.ts";
import type { InstanceAddress } from "../domain/ids.ts";
import { vmmOf } from "../domain/instance.ts";
import type { NodeContext } from "./context.ts";
import { consoleLogs, guestLogs } from "./instances.ts";
import { loadInstance } from "./records.ts";

const pollMs = 1000;
/** How far back two readings are compared; a guest that writes more between two of them is shown in part. */
const windowLines = 2000;

export interface LogRequest {
  /** The guest's console, from the host; otherwise what its services logged. */
  readonly console: boolean;
  /** Only this service's. */
  readonly service?: string | undefined;
  /** How many lines to begin with. */
  readonly lines: number;
}

/**
 * Hands over the last lines of a log and then each line that comes, until the instance has no VMM any
 * more or the operator leaves. A log that was replaced by its own last part is gone on with.
 * @throws ConflictError when services are asked for and the instance does not run.
 */
export async function followLogs(
  context: NodeContext,
  address: InstanceAddress,
  request: LogRequest,
  onLine: (line: string) => void,
): Promise<void> {
  const read = (): Promise<string[]> =>
    request.console
      ? consoleLogs(context, address, windowLines)
      : guestLogs(context, address, request.service, windowLines);
  let seen = await read();
  for (const line of seen.slice(-request.lines)) onLine(line);
  while (!context.signal.aborted) {
    // Looked at before the log is read: what it wrote last is shown too.
    const lives = await hasVmm(context, address);
    const next = await readOn(context, read, seen);
    for (const line of linesAfter(seen, next)) onLine(line);
    seen = next;
    if (!lives) return;
    try {
      await context.clock.sleep(pollMs, context.signal);
    } catch (error) {
      if (!context.signal.aborted) throw error;
    }
  }
}

/** A guest that has just ended, or speaks with another command, has nothing new to say. */
async function readOn(
  context: NodeContext,
  read: () => Promise<string[]>,
  seen: string[],
): Promise<string[]> {
  try {
    return await read();
  } catch (error) {
    const mayPass = error instanceof ConflictError || error instanceof OperationError;
    if (context.signal.aborted || mayPass) return seen;
    throw error;
  }
}

async function hasVmm(context: NodeContext, address: InstanceAddress): Promise<boolean> {
  const { tenants } = await context.store.load();
  const isThere = tenants.some(({ instances }) =>
    instances.some(({ instance_id }) => instance_id === address.instance),
  );
  if (!isThere) return false;
  const { instance } = await loadInstance(context, address);
  return vmmOf(instance) !== undefined;
}

/**
 * The lines of a reading that an earlier one did not have. While a log is shorter than the window it only
 * grows; after that, or when its beginning is gone, the two are laid over each other where the later one
 * holds the end of the earlier one. Where they share nothing, all are new. Beyond the window, lines that
 * repeat without a difference cannot be told apart, and some may not be shown.
 */
export function linesAfter(seen: readonly string[], next: readonly string[]): readonly string[] {
  if (seen.length < windowLines && seen.every((line, index) => line === next[index])) {
    return next.slice(seen.length);
  }
  const last = seen.at(-1);
  if (last === undefined) return next;
  for (let end = next.length - 1; end >= 0; end -= 1) {
    if (next[end] !== last) continue;
    const overlap = Math.min(end + 1, seen.length);
    const from = end + 1 - overlap;
    const isSame = next
      .slice(from, end + 1)
      .every((line, index) => line === seen[seen.length - overlap + index]);
    if (isSame) return next.slice(end + 1);
  }
  return next;
}
