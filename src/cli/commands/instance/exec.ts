import { type Command, buildCommand } from "@stricli/core";
import { UsageError } from "../../../domain/errors.ts";
import type { CliContext } from "../../context.ts";
import { parseInstanceName, optionalNumber, resolveInstance } from "../../parameters.ts";

interface Flags {
  readonly interactive: boolean;
  readonly tty: boolean;
  readonly timeout?: number;
}

const defaultTimeoutSeconds = 3600;
const maxTimeoutSeconds = 86_400;

/** `mvm instance exec` */
export const instanceExec: Command<CliContext> = buildCommand<Flags, string[], CliContext>({
  docs: {
    brief: "Run a command in a guest, through its agent and never by network",
    customUsage: ["<instance> -- <command> [arguments]"],
    fullDescription:
      "Runs a command as root in the guest and ends with its exit code. With -i standard input is passed on, with -t the command has a terminal; a shell is: mvm instance exec -it <instance> -- sh",
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
      tty: { kind: "boolean", default: false, brief: "Run it on a terminal, such as this one" },
      timeout: optionalNumber(
        1,
        maxTimeoutSeconds,
        `End the command after so many seconds: ${defaultTimeoutSeconds}, or ${maxTimeoutSeconds} on a terminal`,
      ),
    },
    aliases: { i: "interactive", t: "tty" },
  },
  async func({ interactive, tty, timeout }, first, ...command) {
    const name = parseInstanceName(first ?? "");
    if (command.length === 0) {
      throw new UsageError("no command is given", {
        hint: "write: mvm instance exec <instance> -- uname -a",
      });
    }
    const terminal = tty ? this.terminal() : undefined;
    if (tty && terminal === undefined) {
      throw new UsageError("standard input is not a terminal, so the command cannot have one", {
        hint: "leave -t out; -i alone passes standard input on",
      });
    }
    const node = await this.node();
    const instance = await resolveInstance(node, name);
    // Who cannot type needs Ctrl-C for mvm itself.
    const raw = interactive ? terminal : undefined;
    try {
      raw?.setRaw(true);
      const exitCode = await node.exec(instance, {
        command,
        timeoutMs: (timeout ?? (tty ? maxTimeoutSeconds : defaultTimeoutSeconds)) * 1000,
        signal: this.signal,
        ...(interactive ? { stdin: this.stdin } : {}),
        ...(terminal === undefined
          ? {}
          : { terminal, env: { TERM: this.process.env?.["TERM"] ?? "xterm" } }),
        onOutput: (stream, bytes) => this.out.raw(stream, bytes),
      });
      this.exitWith(exitCode);
    } finally {
      raw?.setRaw(false);
      // An input that never ends, such as a terminal, would keep this process.
      if (interactive) this.stdin.destroy();
    }
  },
});
