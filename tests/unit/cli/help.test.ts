import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import {
  type Application,
  type CommandContext,
  type DocumentedCommand,
  generateHelpTextForAllCommands,
} from "@stricli/core";
import { buildCommandLine } from "../../../src/cli/app.ts";

const golden = join(import.meta.dirname, "..", "..", "golden", "help.txt");

function documented(): readonly DocumentedCommand[] {
  // Help asks nothing of a context, whatever its type.
  const application = buildCommandLine("0.0.0") as unknown as Application<CommandContext>;
  return generateHelpTextForAllCommands(application);
}

/** The help of every command, as `mvm <command> --help` prints it. */
function helpOfAllCommands(): string {
  return documented()
    .map(([command, text]) => `$ ${command} --help\n${text.trimEnd()}\n`)
    .join("\n");
}

test("the help of every command is as it was; MVM_UPDATE_GOLDEN=1 writes it anew", async () => {
  const help = helpOfAllCommands();
  if (process.env["MVM_UPDATE_GOLDEN"] === "1") await writeFile(golden, help);
  assert.equal(help, await readFile(golden, "utf8"));
});

test("every command that lists or shows something can do so as JSON", () => {
  const shows = /(^| )(list|info|status|stats|events|explain|doctor|connect|verify)$/;
  const commands = documented().filter(([command]) => shows.test(command));
  assert.ok(commands.length >= 16, `${commands.length} commands`);
  for (const [command, text] of commands) assert.match(text, /--json/, command);
});

test("every command says in one line what it is for", () => {
  for (const [command, text] of documented()) {
    assert.match(text, /USAGE/, command);
    assert.ok(
      text.split("\n").some((line) => /^[A-Z].*[a-z]/.test(line)),
      command,
    );
  }
});
