import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { run } from "@stricli/core";
import { buildCommandLine } from "../../../src/cli/app.ts";
import type { CliContext } from "../../../src/cli/context.ts";
import type { LocalTerminal } from "../../../src/cli/local-terminal.ts";
import { Output } from "../../../src/cli/output.ts";
import { OperationError } from "../../../src/domain/errors.ts";
import type { NodeOperations } from "../../../src/node/operations.ts";
import type { GuestExecRequest } from "../../../src/ports/guest-link.ts";
import { noFleet } from "../../builders/no-fleet.ts";

interface Situation {
  readonly flags?: readonly string[];
  /** Default: every command in the guest ends with 5. */
  readonly answer?: () => Promise<number>;
  readonly hasTerminal?: boolean;
}

interface Outcome {
  readonly exitCode: number | string | null | undefined;
  readonly stdin: PassThrough;
  readonly errors: string;
  readonly requests: readonly GuestExecRequest[];
  /** What became of the terminal, and when the guest was asked and had answered. */
  readonly events: readonly string[];
}

/** Runs `mvm instance exec`. */
async function exec(situation: Situation): Promise<Outcome> {
  const { flags = [], answer = () => Promise.resolve(5), hasTerminal = false } = situation;
  const stdin = new PassThrough();
  const requests: GuestExecRequest[] = [];
  const events: string[] = [];
  let errors = "";
  const nowhere = { write: (): boolean => true };
  const stderr = {
    write: (text: string): void => {
      events.push("error");
      errors += text;
    },
  };
  const terminal: LocalTerminal = {
    setRaw: (raw) => void events.push(raw ? "raw" : "restored"),
    size: () => ({ rows: 24, cols: 80 }),
    onResize: () => () => undefined,
  };
  let chosen = 0;
  const node: Pick<NodeOperations, "exec"> = {
    exec: (_address, request) => {
      events.push("exec");
      requests.push(request);
      return answer();
    },
  };
  const streams: CliContext["process"] = { stdout: nowhere, stderr, env: { TERM: "vt52" } };
  const context: CliContext = {
    process: streams,
    stdin,
    terminal: () => (hasTerminal ? terminal : undefined),
    out: new Output(nowhere, nowhere),
    signal: new AbortController().signal,
    node: () => Promise.resolve(node as NodeOperations),
    ...noFleet,
    records: () => Promise.resolve(node as NodeOperations),
    host: () => Promise.reject(new Error("exec asks nothing of the host's setup")),
    serveHostd: () => Promise.reject(new Error("no hostd here")),
    exitWith: (code) => {
      chosen = code;
    },
  };
  const line = ["instance", "exec", ...flags, "acme/web/i-00000001", "--", "true"];
  await run(buildCommandLine("0"), line, context);
  return { exitCode: streams.exitCode || chosen, stdin, errors, requests, events };
}

test("exec -i lets go of its input once the command has ended, so that mvm can end", async () => {
  const { exitCode, stdin, requests } = await exec({ flags: ["-i"], hasTerminal: true });
  assert.equal(exitCode, 5);
  assert.ok(stdin.destroyed);
  assert.equal(requests[0]?.stdin, stdin);
  assert.equal(requests[0].terminal, undefined);
});

test("exec without -i leaves its input to others", async () => {
  const { exitCode, stdin, requests, events } = await exec({ hasTerminal: true });
  assert.equal(exitCode, 5);
  assert.ok(!stdin.destroyed);
  assert.equal(requests[0]?.stdin, undefined);
  assert.deepEqual(events, ["exec"]);
});

for (const flags of [["-it"], ["-i", "-t"], ["--interactive", "--tty"]]) {
  test(`exec ${flags.join(" ")} passes each key on while the command runs, and then restores the terminal`, async () => {
    const { exitCode, requests, events } = await exec({ flags, hasTerminal: true });
    assert.equal(exitCode, 5);
    assert.deepEqual(events, ["raw", "exec", "restored"]);
    assert.deepEqual(requests[0]?.terminal?.size(), { rows: 24, cols: 80 });
    assert.deepEqual(requests[0].env, { TERM: "vt52" });
    assert.equal(requests[0].timeoutMs, 86_400_000);
  });
}

test("a terminal is restored before an error is said", async () => {
  const answer = (): Promise<number> => Promise.reject(new OperationError("the guest is gone"));
  const { exitCode, errors, events } = await exec({ flags: ["-it"], hasTerminal: true, answer });
  assert.equal(exitCode, 1);
  assert.match(errors, /the guest is gone/);
  assert.deepEqual(events.slice(0, 4), ["raw", "exec", "restored", "error"]);
});

test("exec -t leaves the keys to mvm, and its input alone", async () => {
  const { stdin, requests, events } = await exec({ flags: ["-t"], hasTerminal: true });
  assert.deepEqual(events, ["exec"]);
  assert.ok(requests[0]?.terminal !== undefined && requests[0].stdin === undefined);
  assert.ok(!stdin.destroyed);
});

test("exec -t without a terminal is an error of usage, and no guest is asked", async () => {
  for (const flags of [["-t"], ["-it"]]) {
    const { exitCode, errors, requests } = await exec({ flags });
    assert.equal(exitCode, 2);
    assert.match(errors, /not a terminal/);
    assert.deepEqual(requests, []);
  }
});
