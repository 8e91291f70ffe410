import type { CommandContext, StricliProcess } from "@stricli/core";
import type { Readable } from "node:stream";
import type { NodeOperations } from "../node/operations.ts";
import type { NodeQueries } from "../node/queries.ts";
import type { HostSetup } from "../ports/host-setup.ts";
import type { LocalTerminal } from "./local-terminal.ts";
import type { Output } from "./output.ts";

/** What a command works with. Records, node and host are built when they are asked for, so that the rest stays quick. */
export interface CliContext extends CommandContext {
  readonly process: StricliProcess;
  readonly stdin: Readable & { readonly isTTY?: boolean };
  /** The terminal at standard input, or undefined when that is none. */
  terminal(): LocalTerminal | undefined;
  readonly out: Output;
  readonly signal: AbortSignal;
  /** What the records alone can answer: much sooner there than the node. */
  records(): Promise<NodeQueries>;
  node(): Promise<NodeOperations>;
  host(): Promise<HostSetup>;
  /** Sets the exit code of a command that did not throw. */
  exitWith(code: number): void;
}
