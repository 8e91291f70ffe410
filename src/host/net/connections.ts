import { OperationError } from "../../domain/errors.ts";
import type { Exec } from "../../ports/exec.ts";

const toolTimeoutMs = 60_000;

/**
 * Makes the kernel forget the connections of guests' addresses, so that who gets an address next does
 * not get answers to its former owner, and a policy that changed meets no flow it did not let begin.
 * Guests begin connections (source) or answer the host's (source of the reply).
 * Source: conntrack(8).
 */
export async function forgetConnections(exec: Exec, addresses: readonly string[]): Promise<void> {
  for (const address of addresses) {
    for (const side of ["--src", "--reply-src"]) {
      const args = ["-D", "-f", "ipv4", side, address];
      const { exitCode, stderr } = await exec.tryRun("conntrack", args, {
        timeoutMs: toolTimeoutMs,
      });
      // It ends with 1 when there was none to delete.
      if (exitCode === 0 || stderr.includes("0 flow entries have been deleted")) continue;
      throw new OperationError(
        `cannot remove the connections of ${address}: ${stderr.trim().slice(-500)}`,
        { hint: "look at what the kernel says: conntrack -L" },
      );
    }
  }
}
