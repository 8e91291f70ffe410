import { type Command, buildCommand } from "@stricli/core";
import { UsageError } from "../../domain/errors.ts";
import { type Shell, completionScripts, shells } from "../completion.ts";
import type { CliContext } from "../context.ts";

/** `mvm completion` */
export const completion: Command<CliContext> = buildCommand<object, [Shell], CliContext>({
  docs: {
    brief: "Print what a shell needs to complete commands and names",
    fullDescription:
      "Prints a script for bash, zsh or fish. For bash, put this into ~/.bashrc: source <(mvm completion bash)",
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [
        {
          brief: "bash, zsh or fish",
          parse: parseShell,
          placeholder: "shell",
          proposeCompletions: (partial) => shells.filter((shell) => shell.startsWith(partial)),
        },
      ],
    },
  },
  func(_flags, shell) {
    this.out.data(completionScripts[shell]);
  },
});

function parseShell(text: string): Shell {
  const shell = shells.find((known) => known === text);
  if (shell !== undefined) return shell;
  throw new UsageError(`"${text}" is not bash, zsh or fish`);
}
