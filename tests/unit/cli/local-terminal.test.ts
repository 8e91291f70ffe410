import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import { localTerminal } from "../../../src/cli/local-terminal.ts";

type Size = [number, number];

function streams(input: boolean, output: Size | undefined, errors: Size | undefined) {
  const signals = new EventEmitter<{ SIGWINCH: [] }>();
  const screen = (size: Size | undefined) => ({
    isTTY: size !== undefined,
    getWindowSize: (): Size => size ?? [1, 1],
  });
  return {
    stdin: { isTTY: input, setRawMode: neverAsked },
    stdout: screen(output),
    stderr: screen(errors),
    on: (name: "SIGWINCH", listener: () => void) => signals.on(name, listener),
    off: (name: "SIGWINCH", listener: () => void) => signals.off(name, listener),
    signals,
  };
}

function neverAsked(): never {
  throw new Error("the test does not ask for it");
}

test("without a terminal at standard input there is none, whatever the others are", () => {
  assert.equal(localTerminal(streams(false, [80, 24], [80, 24])), undefined);
});

test("the size is that of the first stream of output that is a terminal, or the usual one", () => {
  assert.deepEqual(localTerminal(streams(true, [101, 33], [1, 1]))?.size(), {
    rows: 33,
    cols: 101,
  });
  assert.deepEqual(localTerminal(streams(true, undefined, [90, 20]))?.size(), {
    rows: 20,
    cols: 90,
  });
  assert.deepEqual(localTerminal(streams(true, undefined, undefined))?.size(), {
    rows: 24,
    cols: 80,
  });
  assert.deepEqual(localTerminal(streams(true, [0, 0], undefined))?.size(), { rows: 24, cols: 80 });
});

test("a change of size is told until nobody listens any more", () => {
  const process = streams(true, [80, 24], undefined);
  let told = 0;
  const stop = localTerminal(process)?.onResize(() => (told += 1));
  process.signals.emit("SIGWINCH");
  stop?.();
  process.signals.emit("SIGWINCH");
  assert.equal(told, 1);
});
