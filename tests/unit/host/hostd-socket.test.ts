import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ConflictError, HostLacksError } from "../../../src/domain/errors.ts";
import { parseTenantId } from "../../../src/domain/ids.ts";
import type { HostdCall, HostdHandlers } from "../../../src/ports/hostd.ts";
import { encodeFrame } from "../../../src/protocol/frames.ts";
import { hostdHello } from "../../../src/protocol/hostd-messages.ts";
import { HostdLink } from "../../builders/hostd-link.ts";

const acme = parseTenantId("acme");
const status = { present: true, fingerprint: null, changed_at: null, problem: null };

/** Handlers of which a test gives those that it asks. */
function handlersOf(some: Partial<HostdHandlers>): HostdHandlers {
  return some as HostdHandlers;
}

/** What a peer gets that sends these bytes, until the other side ends. */
async function answerTo(path: string, bytes: readonly Uint8Array[]): Promise<string> {
  const socket = connect(path);
  let answer = "";
  socket.on("data", (chunk: Buffer) => {
    answer += chunk.toString("latin1");
  });
  // Who is turned away may learn of it while it writes.
  socket.on("error", () => undefined);
  const closed = Promise.withResolvers<void>();
  socket.once("close", () => closed.resolve());
  for (const part of bytes) socket.write(part);
  await closed.promise;
  return answer;
}

const hello = encodeFrame(hostdHello("agentd"));

test("a request is answered, and each connection carries one", async () => {
  await using link = await HostdLink.make(handlersOf({ KeyStatus: async () => status }));
  assert.deepEqual(await link.client.call("KeyStatus", { tenant: acme }), status);
  assert.deepEqual(await link.client.call("KeyStatus", { tenant: acme }), status);
});

test("an error arrives as it was thrown: its class, its words and what to do next", async () => {
  await using link = await HostdLink.make(
    handlersOf({
      KeyStatus: () => Promise.reject(new ConflictError("it is busy", { hint: "wait" })),
    }),
  );
  await assert.rejects(link.client.call("KeyStatus", { tenant: acme }), (error) => {
    assert.ok(error instanceof ConflictError);
    assert.equal(error.message, "it is busy");
    assert.equal(error.hint, "wait");
    return true;
  });
});

test("an operation that is not in the table is refused by its name", async () => {
  await using link = await HostdLink.make(handlersOf({}));
  for (const op of ["Shell", "constructor", "__proto__"]) {
    const answer = await answerTo(link.path, [hello, encodeFrame({ id: 1, op, command: "id" })]);
    assert.match(answer, /"code":"usage","message":"hostd has no operation/);
  }
});

test("what an operation does not know, and what no id is, is refused with its place, and nothing is done", async () => {
  let done = 0;
  const count = async (): Promise<typeof status> => {
    done += 1;
    return status;
  };
  await using link = await HostdLink.make(handlersOf({ KeyStatus: count }));
  const asked = [
    { tenant: "../../etc" },
    { tenant: "a/b" },
    { tenant: "acme", uid: 0 },
    { tenant: 7 },
    {},
  ];
  for (const fields of asked) {
    const frame = encodeFrame({ id: 1, op: "KeyStatus", ...fields });
    const answer = await answerTo(link.path, [hello, frame]);
    assert.match(answer, /"code":"usage","message":"KeyStatus was asked for in a form/);
  }
  assert.equal(done, 0);
});

test("no operation that names a place takes a path, and no number beyond its range", async () => {
  await using link = await HostdLink.make(handlersOf({}));
  const instance = { tenant: "acme", pool: "web", instance: "i-0000000a" };
  const machine = {
    instance,
    netId: 1,
    offset: 2,
    vcpus: 1,
    memMib: 256,
    revision: "a".repeat(64),
    hasConfig: true,
    hasData: false,
  };
  const wrong: readonly [string, object][] = [
    ["VmmStart", { machine: { ...machine, uid: 0 }, adopt: false }],
    ["VmmStart", { machine: { ...machine, revision: "../../../etc" }, adopt: false }],
    ["VmmStart", { machine: { ...machine, netId: 4096 }, adopt: false }],
    ["VmmStart", { machine: { ...machine, offset: 1 }, adopt: false }],
    ["VmmStop", { vmm: { id: "i-0000000a", pid: 1, startTicks: 0 }, graceMs: 0 }],
    ["VmmStop", { vmm: { id: "b-0000000a", pid: 9, startTicks: 0 }, graceMs: 0 }],
    ["ConsoleTail", { instance: { ...instance, pool: ".." }, lines: 1 }],
    ["DrivesRelease", { instance: "../b" }],
    ["FoldersMake", { of: { tenant: "acme", pool: "web/../../x" } }],
    ["ImagesCollect", { kept: ["../keys"] }],
    ["KeyReplace", { tenant: "acme", key: "short" }],
  ];
  for (const [op, fields] of wrong) {
    const answer = await answerTo(link.path, [hello, encodeFrame({ id: 1, op, ...fields })]);
    assert.match(answer, /"code":"usage"/, `${op} ${JSON.stringify(fields)}`);
  }
});

test("a frame that says it is huge is refused before it has come", async () => {
  await using link = await HostdLink.make(handlersOf({}));
  const header = Buffer.alloc(4);
  header.writeUInt32BE(0xffffffff);
  assert.match(await answerTo(link.path, [header]), /over the limit/);
  assert.match(await answerTo(link.path, [hello, header]), /over the limit/);
});

test("bytes that are no frame, and a Hello that is none, are refused", async () => {
  await using link = await HostdLink.make(handlersOf({}));
  assert.match(await answerTo(link.path, [Buffer.from("\0\0\0\x04nope")]), /not JSON/);
  assert.match(await answerTo(link.path, [encodeFrame({ id: 1, op: "Describe" })]), /no Hello/);
  assert.match(await answerTo(link.path, [encodeFrame(hostdHello("hostd"))]), /no Hello/);
  const newer = encodeFrame({ ...hostdHello("agentd"), version: 99 });
  assert.match(await answerTo(link.path, [newer]), /version 99/);
});

test("a user who is neither agentd nor root gets nothing read", async () => {
  await using link = await HostdLink.make(handlersOf({ KeyStatus: async () => status }), {
    peerOf: () => ({ pid: 5, uid: 1000, gid: 1000 }),
  });
  const answer = await answerTo(link.path, [
    hello,
    encodeFrame({ id: 1, op: "KeyStatus", tenant: "acme" }),
  ]);
  assert.match(answer, /"code":"not_trusted","message":"hostd does not answer to user 1000"/);
  assert.doesNotMatch(answer, /"ok":true/);
  assert.match(link.notes.join("\n"), /user 1000/);
});

test("a peer that says nothing, or half a frame, is let go after its time", async () => {
  await using link = await HostdLink.make(handlersOf({}), { greetingMs: 100 });
  assert.equal(await answerTo(link.path, []), "");
  assert.equal(await answerTo(link.path, [hello.subarray(0, 7)]), "");
  assert.match(await answerTo(link.path, [hello]), /"role":"hostd"/);
  while (link.notes.length < 3) await delay(5);
});

test("more connections than there may be are turned away, and those that are there go on", async () => {
  const held = Promise.withResolvers<typeof status>();
  await using link = await HostdLink.make(handlersOf({ KeyStatus: () => held.promise }), {
    maxConnections: 2,
  });
  const first = link.client.call("KeyStatus", { tenant: acme });
  const second = link.client.call("KeyStatus", { tenant: acme });
  await delay(100);
  assert.equal(await answerTo(link.path, [hello]), "");
  held.resolve(status);
  assert.deepEqual(await Promise.all([first, second]), [status, status]);
});

test("a hostd that dies before it answers is waited for and asked again", async () => {
  const asked: unknown[] = [];
  const never = Promise.withResolvers<never>();
  const vmm = { id: "i-0000000a", pid: 7, startTicks: 9 };
  await using link = await HostdLink.make(
    handlersOf({
      VmmStart: (request) => {
        asked.push(request.adopt);
        return never.promise;
      },
    }),
  );
  const machine = {
    instance: { tenant: "acme", pool: "web", instance: "i-0000000a" },
    netId: 1,
    offset: 2,
    vcpus: 1,
    memMib: 256,
    revision: "a".repeat(64),
    hasConfig: true,
    hasData: false,
  } as never;
  const started = link.client.call(
    "VmmStart",
    { machine, adopt: false },
    { again: { machine, adopt: true } },
  );
  while (asked.length === 0) await delay(5);
  await link.drop();
  await delay(300);
  await link.listen(
    handlersOf({
      VmmStart: async (request) => {
        asked.push(request.adopt);
        return { vmm: vmm as never };
      },
    }),
  );
  assert.deepEqual(await started, { vmm });
  assert.deepEqual(asked, [false, true], "the second time what the first one made is adopted");
});

test("a hostd that is not there is waited for, and not for ever", async () => {
  await using link = await HostdLink.make(handlersOf({}));
  await link.drop();
  const before = performance.now();
  await assert.rejects(link.client.call("Describe", {}), HostLacksError);
  assert.ok(performance.now() - before > 2900);
});

test("taking a request back and going away are told apart", async () => {
  const calls: HostdCall[] = [];
  const ends = async (call: HostdCall): Promise<typeof status> => {
    calls.push(call);
    await once(call.unwanted, "abort");
    return status;
  };
  await using link = await HostdLink.make(handlersOf({ KeyStatus: (_, call) => ends(call) }));
  const abort = new AbortController();
  const taken = link.client.call("KeyStatus", { tenant: acme }, { signal: abort.signal });
  while (calls.length < 1) await delay(5);
  abort.abort();
  await taken.catch(() => undefined);
  const socket = connect(link.path);
  socket.write(hello);
  socket.write(encodeFrame({ id: 1, op: "KeyStatus", tenant: "acme" }));
  while (calls.length < 2) await delay(5);
  socket.destroy();
  while (!calls.every(({ unwanted }) => unwanted.aborted)) await delay(5);
  assert.deepEqual(
    calls.map(({ cancelled }) => cancelled.aborted),
    [true, false],
  );
});

test("what a handler throws that is no error of mvm's is a failure to agentd, and hostd goes on", async () => {
  let first = true;
  await using link = await HostdLink.make(
    handlersOf({
      KeyStatus: async () => {
        if (!first) return status;
        first = false;
        throw new TypeError("a defect");
      },
    }),
  );
  await assert.rejects(link.client.call("KeyStatus", { tenant: acme }), /a defect/);
  assert.deepEqual(await link.client.call("KeyStatus", { tenant: acme }), status);
  assert.match(link.notes.join("\n"), /KeyStatus failed: a defect/);
});

test("an answer that is not of the form agreed is an error and no value", async () => {
  await using link = await HostdLink.make(
    handlersOf({ KeyStatus: async () => ({ present: "yes" }) as never }),
  );
  await assert.rejects(link.client.call("KeyStatus", { tenant: acme }), /in an unknown form/);
});

test("what listens in hostd's place and is not root's is not asked", async () => {
  await using link = await HostdLink.make(handlersOf({ KeyStatus: async () => status }));
  const { HostdClient } = await import("../../../src/host/hostd/client.ts");
  const wary = new HostdClient({
    path: link.path,
    peerOf: () => ({ pid: 3, uid: 1000, gid: 1000 }),
  });
  await assert.rejects(wary.call("KeyStatus", { tenant: acme }), /is not root's and so no hostd/);
});

test("an aborted request is an error of its own", async () => {
  await using link = await HostdLink.make(
    handlersOf({ KeyStatus: () => Promise.withResolvers<never>().promise }),
  );
  await assert.rejects(
    link.client.call("KeyStatus", { tenant: acme }, { signal: AbortSignal.abort() }),
    /KeyStatus was interrupted/,
  );
});
