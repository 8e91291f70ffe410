import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, duplexPair } from "node:stream";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { after, before, test } from "node:test";
import {
  ConflictError,
  NotFoundError,
  OperationError,
  describeError,
} from "../../../../src/domain/errors.ts";
import { HostGuestLink } from "../../../../src/host/guest-link.ts";
import { exchangeHello } from "../../../../src/host/guest-link/hello.ts";
import {
  defaultGuestLinkLimits,
  type GuestLinkLimits,
} from "../../../../src/host/guest-link/limits.ts";
import { GuestRequests } from "../../../../src/host/guest-link/requests.ts";
import { processStartTicks } from "../../../../src/host/processes.ts";
import type { GuestSession } from "../../../../src/ports/guest-link.ts";
import type { VmmProcess } from "../../../../src/ports/vmm.ts";
import { emptyAnswerSchema } from "../../../../src/protocol/guest-messages.ts";
import { FrameDecoder, encodeFrame } from "../../../../src/protocol/frames.ts";

interface Request {
  readonly id: number;
  readonly op: string;
  readonly nonce: string;
}

let runDir: string;
let vmm: VmmProcess;
before(async () => {
  runDir = await mkdtemp(join(tmpdir(), "mvm-link-"));
  const startTicks = (await processStartTicks(process.pid)) ?? 0;
  vmm = { id: "i-test0000", runDir, pid: process.pid, startTicks };
});
after(async () => {
  await rm(runDir, { recursive: true });
});

const quick: Partial<GuestLinkLimits> = { helloTimeoutMs: 200, retryDelayMs: 10 };

/** A guest that does as `onRequest` says; each connection is one call of `connect`. */
function linkTo(
  onRequest: (request: Request, guest: Duplex, connection: number) => void,
  limits: Partial<GuestLinkLimits> = {},
): HostGuestLink {
  let connections = 0;
  const openChannel = (): Promise<Duplex> => {
    const connection = (connections += 1);
    const [host, guest] = duplexPair();
    const decoder = new FrameDecoder();
    guest.on("error", () => undefined);
    guest.on("data", (chunk: Buffer) => {
      for (const value of decoder.push(chunk)) onRequest(value as Request, guest, connection);
    });
    return Promise.resolve(host);
  };
  return new HostGuestLink({ openChannel }, { ...quick, ...limits });
}

function helloTo(request: Request, changes: Readonly<Record<string, unknown>> = {}): Buffer {
  const hello = { nonce: request.nonce, protocol: "mvm-guest", version: 1, boot_id: "b" };
  const result = { ...hello, instance_id: "i-test0000", ...changes };
  return encodeFrame({ id: request.id, ok: true, result });
}

/** A guest that greets well, and then does as `onRequest` says. */
async function openTo(
  onRequest: (request: Request, guest: Duplex) => void,
  limits: Partial<GuestLinkLimits> = {},
): Promise<GuestSession> {
  const link = linkTo((request, guest) => {
    if (request.op === "Hello") guest.write(helloTo(request));
    else onRequest(request, guest);
  }, limits);
  return await link.open(vmm, 2000);
}

/** Writes without end, as fast as the host reads. */
function flood(guest: Duplex, bytes: Buffer): void {
  if (guest.destroyed) return;
  guest.write(bytes, () => setImmediate(flood, guest, bytes));
}

const run = { command: ["true"], timeoutMs: 1000, onOutput: (): void => undefined };

void test("a session begins although half a frame of an older one comes first", async () => {
  const link = linkTo((request, guest) => {
    guest.write(Buffer.from([0, 15, 255, 255, 123, 34]));
    // In small pieces, as a slow guest would.
    const hello = helloTo(request);
    for (let at = 0; at < hello.length; at += 7) guest.write(hello.subarray(at, at + 7));
  });
  const session = await link.open(vmm, 2000);
  assert.equal(session.hello.instance_id, "i-test0000");
  session.close();
});

void test("a guest that is silent at first is asked again on a new connection", async () => {
  let tries = 0;
  const link = linkTo((request, guest, connection) => {
    tries = connection;
    if (connection === 3) guest.write(helloTo(request));
  });
  const session = await link.open(vmm, 5000);
  assert.equal(tries, 3);
  session.close();
});

void test("a wrong nonce is no answer", async () => {
  const link = linkTo((request, guest) =>
    guest.write(helloTo({ ...request, nonce: "0".repeat(32) })),
  );
  await assert.rejects(link.open(vmm, 600), (error) => {
    assert.ok(error instanceof OperationError);
    assert.match(error.message, /does not answer/);
    assert.match(error.hint ?? "", /mvm instance logs i-test0000 --console/);
    return true;
  });
});

void test("an agent of another version is refused at once, by name", async () => {
  const link = linkTo((request, guest) => guest.write(helloTo(request, { version: 2 })));
  await assert.rejects(link.open(vmm, 5000), /speaks version 2, this host 1/);
});

void test("a flood in place of Hello is bounded and ends in an error", async () => {
  const noise = Buffer.alloc(1024 * 1024, 7);
  const link = linkTo(
    (_request, guest) => {
      flood(guest, noise);
    },
    { helloTimeoutMs: 2000 },
  );
  const before = process.memoryUsage().rss;
  await assert.rejects(link.open(vmm, 3000), OperationError);
  assert.ok(process.memoryUsage().rss - before < 300 * 1024 * 1024);
});

void test("a flood in place of Hello ends the try as soon as it is one, not when its time is over", async () => {
  const [host, guest] = duplexPair();
  guest.on("error", () => undefined);
  flood(guest, Buffer.alloc(1024 * 1024, 7));
  try {
    await assert.rejects(exchangeHello(host, 30_000), /16777216 bytes and no answer to Hello/);
  } finally {
    guest.destroy();
    host.destroy();
  }
});

void test("a guest that does not read is sent no more than a bound", async () => {
  const [host, guest] = duplexPair();
  guest.pause();
  const requests = new GuestRequests(host, defaultGuestLinkLimits, () => undefined);
  const schema = emptyAnswerSchema;
  const data = "x".repeat(64 * 1024);
  const input = { op: "ExecInput", exec_id: 1, data, end: false } as const;
  const answers = Array.from({ length: 100 }, () =>
    requests.start(input, { schema, timeoutMs: 30_000 }).answer.catch((error: unknown) => error),
  );
  assert.match(String(await answers[0]), /does not read what it is sent/);
  assert.match(String(await answers[99]), /does not read what it is sent/);
  assert.ok(host.destroyed);
});

void test("a VMM that has ended is named without waiting", async () => {
  const link = linkTo(() => undefined);
  await assert.rejects(link.open({ ...vmm, startTicks: 1 }, 60_000), /has ended/);
});

void test("a VMM without a run folder is named as such", async () => {
  const link = linkTo(() => undefined);
  const lost = { ...vmm, runDir: join(runDir, "gone") };
  await assert.rejects(link.open(lost, 1000), (error) => {
    assert.ok(error instanceof OperationError);
    assert.match(error.message, /the VMM of i-test0000 has no run folder/);
    return true;
  });
});

void test("one session at a time: the next waits until the first is closed", async () => {
  const first = await openTo(() => undefined);
  const link = linkTo((request, guest) => guest.write(helloTo(request)));
  await assert.rejects(link.open(vmm, 100), ConflictError);
  const second = link.open(vmm, 5000);
  first.close();
  (await second).close();
});

for (const [name, bytes, why] of [
  ["a length of 4 GiB", Buffer.from([255, 255, 255, 255]), /frame of 4294967295 bytes/],
  ["a frame over the guest's limit", Buffer.from([0, 16, 0, 1]), /frame of 1048577 bytes/],
  [
    "a message of no known form",
    encodeFrame({ id: 1, ok: true, result: {}, more: 1 }),
    /not of a known form/,
  ],
  [
    "an answer to what was not asked",
    encodeFrame({ id: 77, ok: true, result: {} }),
    /answered what was not asked/,
  ],
  [
    "an answer of the wrong form",
    encodeFrame({ id: 1, ok: true, result: { services: 5 } }),
    /answered Health in an unknown form/,
  ],
  ["what is not JSON", Buffer.from([0, 0, 0, 2, 123, 123]), /not JSON in UTF-8/],
] as const) {
  void test(`${name} ends the session at once, with what was wrong`, async () => {
    const session = await openTo((_request, guest) => guest.write(bytes));
    for (let times = 0; times < 2; times += 1) {
      await assert.rejects(session.health(), (error) => {
        assert.ok(error instanceof OperationError);
        assert.match(describeError(error), why);
        return true;
      });
    }
  });
}

void test("a guest that closes the channel fails what is pending", async () => {
  const session = await openTo((_request, guest) => guest.end());
  await assert.rejects(session.exec(run), /closed the channel/);
});

void test("a guest that does not answer in time ends the session", async () => {
  const session = await openTo(() => undefined, { healthTimeoutMs: 50 });
  await assert.rejects(session.health(), /did not answer Health within 50 ms/);
});

void test("an error of the guest keeps its class and loses its control characters", async () => {
  const session = await openTo((request, guest) =>
    guest.write(
      encodeFrame({ id: request.id, error: { code: "not_found", message: "no\u001B[2J way" } }),
    ),
  );
  await assert.rejects(session.logs("x", 1), (error) => {
    assert.ok(error instanceof NotFoundError);
    assert.equal(error.message, "in the guest: no way");
    return true;
  });
  session.close();
});

void test("a guest cannot choose an error class that speaks of the host", async () => {
  const session = await openTo((request, guest) =>
    guest.write(encodeFrame({ id: request.id, error: { code: "not_trusted", message: "x" } })),
  );
  await assert.rejects(session.shutdown(1), OperationError);
  session.close();
});

void test("output of a command is passed on in order, then its exit code", async () => {
  const session = await openTo((request, guest) => {
    for (const text of ["one ", "two"]) {
      const data = Buffer.from(text).toString("base64");
      guest.write(encodeFrame({ id: request.id, progress: { stream: "stdout", data } }));
    }
    guest.write(encodeFrame({ id: request.id, ok: true, result: { exit_code: 3 } }));
  });
  let output = "";
  const onOutput = (_stream: string, bytes: Uint8Array): void => void (output += bytes.toString());
  assert.equal(await session.exec({ ...run, onOutput }), 3);
  assert.equal(output, "one two");
  session.close();
});

void test("endless output, even of nothing, ends the command and the session", async () => {
  const session = await openTo(
    (request, guest) => {
      const progress = { stream: "stdout", data: "" };
      const frame = encodeFrame({ id: request.id, progress });
      const many = Buffer.concat(Array.from({ length: 500 }, () => frame));
      flood(guest, many);
    },
    { maxExecOutputBytes: 100_000 },
  );
  await assert.rejects(session.exec({ ...run, timeoutMs: 30_000 }), (error) => {
    assert.match(describeError(error), /printed more than 100000 bytes/);
    return true;
  });
});

void test("a guest is read no faster than the limit", async () => {
  const data = Buffer.alloc(16 * 1024).toString("base64");
  const session = await openTo(
    (request, guest) => {
      for (let count = 0; count < 32; count += 1) {
        guest.write(encodeFrame({ id: request.id, progress: { stream: "stdout", data } }));
      }
      guest.write(encodeFrame({ id: request.id, ok: true, result: { exit_code: 0 } }));
    },
    { maxBytesPerSecond: 1024 * 1024 },
  );
  const startMs = performance.now();
  assert.equal(await session.exec({ ...run, timeoutMs: 10_000 }), 0);
  assert.ok(performance.now() - startMs > 300);
  session.close();
});

void test("an interrupted command is cancelled in the guest", async () => {
  const abort = new AbortController();
  const cancelled = Promise.withResolvers<void>();
  const session = await openTo((request) => {
    if (request.op === "Exec") abort.abort();
    if (request.op === "ExecCancel") cancelled.resolve();
  });
  await assert.rejects(session.exec({ ...run, signal: abort.signal }), /interrupted/);
  await cancelled.promise;
  session.close();
});

void test("a command that ended does not keep an input that never ends", async () => {
  const session = await openTo((request, guest) => {
    guest.write(encodeFrame({ id: request.id, ok: true, result: { exit_code: 4 } }));
  });
  const given = Promise.withResolvers<void>();
  const stdin: AsyncIterable<Uint8Array> = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise(() => undefined),
      return: () => {
        given.resolve();
        return Promise.resolve({ done: true, value: undefined });
      },
    }),
  };
  assert.equal(await session.exec({ ...run, stdin }), 4);
  await given.promise;
  session.close();
});

void test("an input that fails after its command ended fails nobody", async () => {
  const session = await openTo((request, guest) => {
    guest.write(encodeFrame({ id: request.id, ok: true, result: { exit_code: 0 } }));
  });
  const stdin = new PassThrough();
  assert.equal(await session.exec({ ...run, stdin }), 0);
  stdin.destroy();
  await new Promise(setImmediate);
  session.close();
});

void test("of many sizes of a terminal, one is on its way at a time and the last one arrives", async () => {
  const sizes: number[] = [];
  let resized = (): void => undefined;
  let rows = 10;
  let execId = 0;
  const session = await openTo((request, guest) => {
    const answer = (id: number, result: object): void =>
      void guest.write(encodeFrame({ id, ok: true, result }));
    if (request.op === "Exec") {
      assert.deepEqual((request as unknown as { terminal: unknown }).terminal, { rows, cols: 80 });
      execId = request.id;
      setImmediate(() => {
        for (rows = 11; rows < 30; rows += 1) resized();
      });
    } else if (request.op === "ExecResize") {
      sizes.push((request as unknown as { rows: number }).rows);
      setTimeout(() => answer(request.id, {}), 20);
      if (sizes.length === 2) setTimeout(() => answer(execId, { exit_code: 0 }), 60);
    }
  });
  const terminal = {
    size: () => ({ rows, cols: 80 }),
    onResize: (listener: () => void) => {
      resized = listener;
      return () => {
        resized = () => assert.fail("nobody listens any more");
      };
    },
  };
  assert.equal(await session.exec({ ...run, terminal }), 0);
  assert.equal(sizes.length, 2);
  assert.equal(sizes[1], 30);
  assert.throws(resized, /nobody listens/);
  session.close();
});

/** A guest whose command runs until `release`; it answers what else it is asked after `delayMs`. */
function guestWithCommand(delayMs = 0): {
  link: HostGuestLink;
  release: () => void;
  asked: string[];
} {
  const asked: string[] = [];
  let release = (): void => undefined;
  const link = linkTo((request, guest) => {
    const answer = (result: object): void =>
      void guest.write(encodeFrame({ id: request.id, ok: true, result }));
    asked.push(request.op);
    if (request.op === "Hello") guest.write(helloTo(request));
    else if (request.op === "Exec") release = () => answer({ exit_code: 7 });
    else if (request.op === "Health") {
      const health = { services: [], uptime_seconds: 5, memory_available_mib: 6 };
      setTimeout(() => answer(health), delayMs);
    } else if (request.op === "Logs") {
      const error = { code: "not_found", message: "no such service" };
      guest.write(encodeFrame({ id: request.id, error }));
    } else answer({});
  });
  return { link, release: () => release(), asked };
}

void test("while a command runs others ask the guest through it, and commands wait for each other", async () => {
  const { link, release, asked } = guestWithCommand();
  const command = await link.openForCommand(vmm, 2000);
  const ended = command.exec({ ...run, timeoutMs: 20_000 });
  const other = await link.open(vmm, 2000);
  assert.equal(other.hello.instance_id, "i-test0000");
  assert.equal((await other.health()).uptime_seconds, 5);
  await assert.rejects(other.logs("x", 1), (error) => {
    assert.ok(error instanceof NotFoundError);
    assert.equal(error.message, "in the guest: no such service");
    return true;
  });
  await other.shutdown(1);
  await assert.rejects(other.exec(run), ConflictError);
  await assert.rejects(link.openForCommand(vmm, 300), ConflictError);
  other.close();
  release();
  assert.equal(await ended, 7);
  assert.deepEqual(asked, ["Hello", "Exec", "Health", "Logs", "Shutdown"]);

  const next = link.openForCommand(vmm, 5000);
  command.close();
  (await next).close();
});

void test("a command that ends first gives the answers that others wait for, and takes no more questions", async () => {
  const { link, release } = guestWithCommand(300);
  const command = await link.openForCommand(vmm, 2000);
  const ended = command.exec({ ...run, timeoutMs: 20_000 });
  const other = await link.open(vmm, 2000);
  const health = other.health();
  await sleep(50);
  release();
  await ended;
  command.close();
  assert.equal((await health).uptime_seconds, 5);
  await assert.rejects(other.health(), OperationError);
});

void test("what a killed command left of its sharing is in nobody's way", async () => {
  await writeFile(join(runDir, "channel.sock"), "");
  const { link } = guestWithCommand();
  const alone = await link.open(vmm, 2000);
  assert.equal((await alone.health()).uptime_seconds, 5);
  alone.close();
  const command = await link.openForCommand(vmm, 2000);
  const other = await link.open(vmm, 2000);
  other.close();
  command.close();
  await (await link.open(vmm, 2000)).health();
});
