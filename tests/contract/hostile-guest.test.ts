import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { type Server, type Socket, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { MvmError, describeError } from "../../src/domain/errors.ts";
import { HostGuestLink } from "../../src/host/guest-link.ts";
import { processStartTicks } from "../../src/host/processes.ts";
import { agentSocketPath } from "../../src/host/vmm/qemu/command-line.ts";
import { QemuVmm } from "../../src/host/vmm/qemu/qemu-vmm.ts";
import type { VmmProcess } from "../../src/ports/vmm.ts";
import { FrameDecoder, encodeFrame } from "../../src/protocol/frames.ts";

interface Request {
  readonly id: number;
  readonly op: string;
  readonly nonce: string;
}

/** What a guest does with each request of the host. */
type Guest = (request: Request, channel: Socket) => void;

const mib = 1024 * 1024;
const limits = { helloTimeoutMs: 500, requestTimeoutMs: 1000, healthTimeoutMs: 1000 };

function hello(request: Request, version = 1): Buffer {
  const { nonce } = request;
  const result = { nonce, protocol: "mvm-guest", version, boot_id: "b", instance_id: "i-00000001" };
  return encodeFrame({ id: request.id, ok: true, result });
}

/** Writes without end, as fast as it is taken. */
function flood(channel: Socket, bytes: Buffer): void {
  if (channel.destroyed) return;
  channel.write(bytes, () => setImmediate(flood, channel, bytes));
}

/** Greets well, and is hostile from then on. */
const greetsThen =
  (then: (request: Request, channel: Socket) => void): Guest =>
  (request, channel) => {
    if (request.op === "Hello") channel.write(hello(request));
    else then(request, channel);
  };

const noise = Buffer.alloc(mib, 7);
const lengthOf4Gib = Buffer.from([255, 255, 255, 255]);
const unasked = encodeFrame({ id: 4711, ok: true, result: {} });

const hostile: readonly (readonly [what: string, guest: Guest, error: RegExp])[] = [
  [
    "floods its channel in place of Hello",
    (_, channel) => flood(channel, noise),
    /does not answer/,
  ],
  ["never says anything", () => undefined, /does not answer/],
  ["closes its channel again and again", (_, channel) => channel.end(), /does not answer/],
  [
    "announces 4 GiB in place of Hello",
    (_, channel) => channel.write(lengthOf4Gib),
    /does not answer/,
  ],
  [
    "speaks another version",
    (request, channel) => channel.write(hello(request, 2)),
    /speaks version 2/,
  ],
  [
    "floods its channel after Hello",
    greetsThen((_, channel) => flood(channel, noise)),
    /broke the protocol/,
  ],
  [
    "announces 4 GiB after Hello",
    greetsThen((_, channel) => channel.write(lengthOf4Gib)),
    /frame of 4294967295 bytes/,
  ],
  [
    "answers requests that nobody made",
    greetsThen((_, channel) => flood(channel, unasked)),
    /answered what was not asked/,
  ],
  ["never answers a request", greetsThen(() => undefined), /did not answer Health/],
  ["leaves in the middle of an answer", greetsThen((_, channel) => channel.end("\0\0")), /closed/],
];

describe("a hostile guest at the socket of a VMM's channel", () => {
  let runDir: string;
  let server: Server;
  let guest: Guest;
  let process_: VmmProcess;
  const channels = new Set<Socket>();

  beforeEach(async () => {
    runDir = await mkdtemp(join(tmpdir(), "mvm-hostile-"));
    const startTicks = (await processStartTicks(process.pid)) ?? 0;
    process_ = { id: "i-00000001", runDir, pid: process.pid, startTicks };
    server = createServer((channel) => {
      const decoder = new FrameDecoder();
      channels.add(channel);
      channel.on("close", () => channels.delete(channel));
      channel.on("error", () => undefined);
      channel.on("data", (chunk: Buffer) => {
        for (const value of decoder.push(chunk)) guest(value as Request, channel);
      });
    });
    await new Promise<void>((resolve) => server.listen(agentSocketPath(runDir), resolve));
  });
  afterEach(async () => {
    for (const channel of channels) channel.destroy();
    await new Promise((resolve) => server.close(resolve));
    await rm(runDir, { recursive: true });
  });

  /** Asks for its health as mvm does. */
  const ask = async (): Promise<number> => {
    const vmm = new QemuVmm(() => Promise.reject(new Error("nothing is started here")));
    const session = await new HostGuestLink(vmm, limits).open(process_, 1500);
    try {
      return (await session.health()).services.length;
    } finally {
      session.close();
    }
  };

  for (const [what, behaviour, error] of hostile) {
    it(`that ${what} gets one error in bounded time and memory, and keeps nobody from asking again`, async () => {
      guest = behaviour;
      const [rssBefore, startedMs] = [process.memoryUsage().rss, performance.now()];
      await assert.rejects(ask(), (thrown) => {
        assert.ok(thrown instanceof MvmError, String(thrown));
        assert.match(describeError(thrown), error);
        return true;
      });
      assert.ok(performance.now() - startedMs < 8000, "it took too long");
      const grown = process.memoryUsage().rss - rssBefore;
      assert.ok(grown < 300 * mib, `${Math.round(grown / mib)} MiB`);
      guest = greetsThen((request, channel) => {
        const result = { services: [], uptime_seconds: 1, memory_available_mib: 1 };
        channel.write(encodeFrame({ id: request.id, ok: true, result }));
      });
      assert.equal(await ask(), 0, "and a guest that behaves is heard");
    });
  }
});
