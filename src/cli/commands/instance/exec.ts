import { type Command, buildCommand } from "@stricli/core";
import { UsageError } from "../../../domain/errors.ts";
import type { CliContext } from "../../context.ts";
import { parseInstanceName, resolveInstance, wholeNumber } from "../../parameters.ts";

interface Flags {
  readonly interactive: boolean;
  readonly timeout: number;
}

/** `mvm instance exec` */
export const instanceExec: Command<CliContext> = buildCommand<Flags, string[], CliContext>({
  docs: {
    brief: "Run a command in a guest, through its agent and never by network",
    customUsage: ["<instance> -- <command> [arguments]"],
    fullDescription:
      "Runs a command as root in the guest and ends with its exit code. With -i standard input is passed on.",
  },
  parameters: {
    positional: {
      kind: "array",
      minimum: 1,
      parameter: {
        brief: "The instance, then --, then the command and its arguments",
        parse: String,
        placeholder: "word",
      },
    },
    flags: {
      interactive: { kind: "boolean", default: false, brief: "Pass standard input on" },
      timeout: {
        kind: "parsed",
        parse: wholeNumber(1, 86_400),
        default: "3600",
        brief: "End the command after so many seconds",
      },
    },
    aliases: { i: "interactive" },
  },
  async func({ interactive, timeout }, first, ...command) {
    const name = parseInstanceName(first ?? "");
    if (command.length === 0) {
      throw new UsageError("no command is given", {
        hint: "write: mvm instance exec <instance> -- uname -a",
      });
    }
    const node = await this.node();
    const instance = await resolveInstance(node, name);
    try {
      const exitCode = await node.exec(instance, {
        command,
        timeoutMs: timeout * 1000,
        signal: this.signal,
        ...(interactive ? { stdin: this.stdin } : {}),
        onOutput: (stream, bytes) => this.out.raw(stream, bytes),
      });
      this.exitWith(exitCode);
    } finally {
      // An input that never ends, such as a terminal, would keep this process.
      if (interactive) this.stdin.destroy();
    }
  },
});
