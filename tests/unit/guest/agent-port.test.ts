import assert from "node:assert/strict";
import { test } from "node:test";
import { AgentPort, type ByteFile } from "../../../src/guest/agent-port.ts";

/** A port that gives these reads in order, "" for an end of file, and then fails so that the loop ends. */
function portOf(reads: readonly string[]): ByteFile {
  const left = [...reads];
  return {
    read: async (buffer) => {
      const next = left.shift();
      if (next === undefined) throw new Error("no more reads");
      return buffer.write(next);
    },
    write: async (bytes) => bytes.length,
  };
}

async function eventsOf(reads: readonly string[]): Promise<string[]> {
  const seen: string[] = [];
  const loop = new AgentPort(portOf(reads)).readLoop({
    onBytes: (bytes) => seen.push(bytes.toString()),
    onSilence: () => seen.push("silence"),
    onDisconnect: () => seen.push("disconnect"),
  });
  await assert.rejects(loop, /no more reads/);
  return seen;
}

test("one end of file between two hosts does not end the session of the second", async () => {
  assert.deepEqual(await eventsOf(["hello", "", "request"]), ["hello", "request"]);
});

const ends = (count: number): string[] => Array.from({ length: count }, () => "");

test("a guest that learns late of the host before keeps the session of the new one", async () => {
  const reads = ["hello", ...ends(10), "request"];
  assert.deepEqual(await eventsOf(reads), ["hello", "silence", "request"]);
});

test("a host that stays away is noticed once", async () => {
  const reads = ["hello", ...ends(20), "again"];
  assert.deepEqual(await eventsOf(reads), ["hello", "silence", "disconnect", "again"]);
});

test("ends of file before the first host are nothing", async () => {
  assert.deepEqual(await eventsOf(["", "", "", "", "", "hello"]), ["hello"]);
});
