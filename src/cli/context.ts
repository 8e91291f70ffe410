import type { CommandContext, StricliProcess } from "@stricli/core";
import type { Readable } from "node:stream";
import type { Fleet } from "../coordinator/fleet.ts";
import type { AgentServeOptions } from "../node/agent/agent.ts";
import type { Certificates } from "../node/agent/certificates.ts";
import type { NodeOperations } from "../node/operations.ts";
import type { NodeQueries } from "../node/queries.ts";
import type { Authority } from "../ports/authority.ts";
import type { HostSetup } from "../ports/host-setup.ts";
import type { SigningKeys } from "../ports/signing-keys.ts";
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
  /** This node's identity. */
  certificates(): Promise<Certificates>;
  /** What follows needs no root: a coordinator is any machine with its folder. */
  authority(): Promise<Authority>;
  signingKeys(): Promise<SigningKeys>;
  fleet(): Promise<Fleet>;
  /** Is hostd until the signal. */
  serveHostd(): Promise<void>;
  /** Is the node's daemon until the operator or the system ends it. */
  serveAgent(options: AgentServeOptions): Promise<void>;
  /** Sets the exit code of a command that did not throw. */
  exitWith(code: number): void;
}
