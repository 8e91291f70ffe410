import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { confirm } from "../../../src/cli/confirm.ts";
import { Output } from "../../../src/cli/output.ts";
import { UsageError } from "../../../src/domain/errors.ts";

/** Asks at a terminal on which `type` types. */
async function ask(type: (stdin: PassThrough, abort: AbortController) => void): Promise<void> {
  const stdin = Object.assign(new PassThrough(), { isTTY: true });
  const nowhere = { write: (): boolean => true };
  const abort = new AbortController();
  const context = { stdin, out: new Output(nowhere, nowhere), signal: abort.signal };
  const asking = confirm(context, "Remove it?", false);
  type(stdin, abort);
  await asking;
}

const refused = (error: unknown): boolean =>
  error instanceof UsageError && error.message === "nothing was done";

for (const answer of ["y\n", "Yes\n"]) {
  test(`${JSON.stringify(answer)} is a yes`, () => ask((stdin) => stdin.end(answer)));
}

for (const answer of ["n\n", "\n", "yellow\n"]) {
  test(`${JSON.stringify(answer)} is no yes`, () =>
    assert.rejects(
      ask((stdin) => stdin.write(answer)),
      refused,
    ));
}

for (const answer of ["", "y"]) {
  test(`${JSON.stringify(answer)} and then the end of the input is no yes`, () =>
    assert.rejects(
      ask((stdin) => stdin.end(answer)),
      refused,
    ));
}

test("an interrupt is no yes", () =>
  assert.rejects(
    ask((_stdin, abort) => abort.abort()),
    refused,
  ));
