import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { run } from "@stricli/core";
import { buildCommandLine } from "../../../src/cli/app.ts";
import type { CliContext } from "../../../src/cli/context.ts";
import { Output } from "../../../src/cli/output.ts";
import type { NodeOperations } from "../../../src/node/operations.ts";

/** Runs `mvm instance exec` with a guest in which every command ends with 5. @returns that code and its input. */
async function exec(...flags: string[]): Promise<{ exitCode: number; stdin: PassThrough }> {
  const stdin = new PassThrough();
  const nowhere = { write: (): boolean => true };
  let exitCode = 0;
  const node: Pick<NodeOperations, "exec"> = { exec: () => Promise.resolve(5) };
  const context: CliContext = {
    process: { stdout: nowhere, stderr: nowhere, env: {} },
    stdin,
    out: new Output(nowhere, nowhere),
    signal: new AbortController().signal,
    node: () => Promise.resolve(node as NodeOperations),
    records: () => Promise.resolve(node as NodeOperations),
    host: () => Promise.reject(new Error("exec asks nothing of the host's setup")),
    exitWith: (code) => {
      exitCode = code;
    },
  };
  const line = ["instance", "exec", ...flags, "acme/web/i-00000001", "--", "true"];
  await run(buildCommandLine("0"), line, context);
  return { exitCode, stdin };
}

test("exec -i lets go of its input once the command has ended, so that mvm can end", async () => {
  const { exitCode, stdin } = await exec("-i");
  assert.equal(exitCode, 5);
  assert.ok(stdin.destroyed);
});

test("exec without -i leaves its input to others", async () => {
  const { exitCode, stdin } = await exec();
  assert.equal(exitCode, 5);
  assert.ok(!stdin.destroyed);
});
