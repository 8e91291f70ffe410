import assert from "node:assert/strict";
import { test } from "node:test";
import { AgentPort } from "../../../src/guest/agent-port.ts";
import type { ByteFile } from "../../../src/guest/agent-port.ts";
import { AgentSessions } from "../../../src/guest/agent-session.ts";
import { FrameDecoder, encodeFrame } from "../../../src/protocol/frames.ts";

interface Answer {
  readonly id: number;
  readonly ok?: true;
  readonly result?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly code: string; readonly message: string };
  readonly progress?: { readonly stream: string; readonly data: string };
}

/** The host's side of a virtio-serial port that is a pair of queues in memory. */
class FakeHost {
  readonly answers: Answer[] = [];
  readonly #decoder = new FrameDecoder();
  #waiting: (() => void)[] = [];
  readonly sessions: AgentSessions;

  constructor() {
    const file: ByteFile = {
      read: () => Promise.reject(new Error("the test feeds the session itself")),
      write: (bytes) => {
        const part = bytes.subarray(0, 1000);
        this.answers.push(...([...this.#decoder.push(part)] as Answer[]));
        for (const wake of this.#waiting.splice(0)) wake();
        return Promise.resolve(part.length);
      },
    };
    this.sessions = new AgentSessions(new AgentPort(file), {
      bootId: "boot",
      instanceId: "i-test0000",
      health: () => Promise.resolve({ services: [], uptime_seconds: 1, memory_available_mib: 2 }),
      logs: (service, lines) => [`${service} ${lines}`],
      shutdown: () => undefined,
    });
  }

  send(message: Readonly<Record<string, unknown>>): void {
    this.sessions.onBytes(encodeFrame(message));
  }

  hello(): void {
    const nonce = "0123456789abcdef0123456789abcdef";
    this.send({ id: 0, op: "Hello", protocol: "mvm-guest", version: 1, role: "host", nonce });
  }

  exec(id: number, script: string, more: Readonly<Record<string, unknown>> = {}): void {
    const command = ["/bin/sh", "-c", script];
    const plain = { env: {}, cwd: "/", timeout_ms: 10_000, input: false };
    this.send({ id, op: "Exec", command, ...plain, ...more });
  }

  /** The final answer to a request. */
  async answer(id: number): Promise<Answer> {
    for (;;) {
      const found = this.answers.find((one) => one.id === id && one.progress === undefined);
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  output(id: number, stream: string): string {
    const parts = this.answers.filter((one) => one.id === id && one.progress?.stream === stream);
    return Buffer.concat(
      parts.map((one) => Buffer.from(one.progress?.data ?? "", "base64")),
    ).toString();
  }
}

void test("a session begins with Hello, answered with its nonce", async () => {
  const host = new FakeHost();
  host.send({ id: 5, op: "Ping" });
  assert.equal((await host.answer(5)).error?.code, "conflict");
  host.hello();
  assert.equal((await host.answer(0)).result?.["nonce"], "0123456789abcdef0123456789abcdef");
  host.send({ id: 6, op: "Ping" });
  assert.deepEqual(await host.answer(6), { id: 6, ok: true, result: {} });
});

void test("unknown operations and fields are answered with an error and the session goes on", async () => {
  const host = new FakeHost();
  host.hello();
  host.send({ id: 1, op: "Format" });
  assert.equal((await host.answer(1)).error?.code, "usage");
  host.send({ id: 2, op: "Ping", extra: 1 });
  assert.equal((await host.answer(2)).error?.code, "usage");
  host.send({ id: 3, op: "Health" });
  assert.equal((await host.answer(3)).result?.["uptime_seconds"], 1);
});

void test("a command's output, input, environment and exit code go through", async () => {
  const host = new FakeHost();
  host.hello();
  host.exec(1, 'cat; echo "$A in $PWD" >&2; exit 3', { input: true, env: { A: "b" }, cwd: "/tmp" });
  for (let chunk = 0; chunk < 20; chunk += 1) {
    const data = Buffer.alloc(30_000, "x").toString("base64");
    host.send({ id: 100 + chunk, op: "ExecInput", exec_id: 1, data, end: chunk === 19 });
    await host.answer(100 + chunk);
  }
  assert.deepEqual((await host.answer(1)).result, { exit_code: 3 });
  assert.equal(host.output(1, "stdout").length, 600_000);
  assert.equal(host.output(1, "stderr"), "b in /tmp\n");
});

void test("a signal, a missing program and a time limit are told apart", async () => {
  const host = new FakeHost();
  host.hello();
  host.exec(1, "kill -TERM $$");
  host.exec(2, "", { command: ["/no/such"] });
  host.exec(3, "sleep 60", { timeout_ms: 100 });
  assert.deepEqual((await host.answer(1)).result, { exit_code: 143 });
  assert.equal((await host.answer(2)).error?.code, "not_found");
  assert.match((await host.answer(3)).error?.message ?? "", /within 100 ms/);
});

void test("at most 8 commands run at once, and a cancelled one makes room", async () => {
  const host = new FakeHost();
  host.hello();
  for (let id = 1; id <= 9; id += 1) host.exec(id, "sleep 60");
  assert.equal((await host.answer(9)).error?.code, "conflict");
  host.send({ id: 20, op: "ExecCancel", exec_id: 1 });
  assert.deepEqual((await host.answer(1)).result, { exit_code: 137 });
  host.exec(10, "exit 0");
  assert.deepEqual((await host.answer(10)).result, { exit_code: 0 });
  host.sessions.onDisconnect();
});

void test("half a frame of a host that went away does not spoil the next session", async () => {
  const host = new FakeHost();
  host.hello();
  host.sessions.onBytes(encodeFrame({ id: 1, op: "Ping" }).subarray(0, 9));
  host.sessions.onSilence();
  host.hello();
  host.send({ id: 2, op: "Ping" });
  assert.deepEqual(await host.answer(2), { id: 2, ok: true, result: {} });
});

void test("a command ends with the session that runs it, and nothing of it reaches the next", async () => {
  const host = new FakeHost();
  host.hello();
  host.exec(1, "while :; do echo old; done");
  await host.answer(0);
  host.hello();
  host.answers.length = 0;
  host.exec(1, "echo new");
  assert.deepEqual((await host.answer(1)).result, { exit_code: 0 });
  assert.equal(host.output(1, "stdout").replaceAll("old\n", ""), "new\n");
});

void test("a stream that lost its frames ends the session, and a defect of the agent is not taken for that", () => {
  const host = new FakeHost();
  host.hello();
  host.sessions.onBytes(Buffer.from([255, 255, 255, 255]));
  const broken = new AgentSessions(new AgentPort({ read: neverAsked, write: neverAsked }), {
    get bootId(): string {
      throw new TypeError("a defect");
    },
    instanceId: "i-test0000",
    health: neverAsked,
    logs: () => [],
    shutdown: () => undefined,
  });
  const nonce = "0123456789abcdef0123456789abcdef";
  const hello = { id: 0, op: "Hello", protocol: "mvm-guest", version: 1, role: "host", nonce };
  assert.throws(() => broken.onBytes(encodeFrame(hello)), /a defect/);
});

function neverAsked(): Promise<never> {
  return Promise.reject(new Error("the test does not get here"));
}
