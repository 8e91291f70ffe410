import assert from "node:assert/strict";
import { afterEach, suite, test } from "node:test";
import { NotTrustedError } from "../../src/domain/errors.ts";
import { type AgentParts, serveAgent } from "../../src/node/agent/agent.ts";
import { Certificates } from "../../src/node/agent/certificates.ts";
import { NodeOperations } from "../../src/node/operations.ts";
import type { NodeInfo } from "../../src/ports/host-setup.ts";
import type { IdentityStatus, NodeIdentity } from "../../src/ports/node-identity.ts";
import type { Listener, TransportIdentity } from "../../src/ports/transport.ts";
import { FakeHost } from "../fakes/fake-host.ts";

const pollMs = 5000;
const far = "2100-01-01T00:00:00.000Z";
const certificate = {
  serial: "1",
  not_before: far,
  expires_at: far,
  expired: false,
  renew_at: far,
};

/** A daemon with ports that do nothing and an identity that a test may break. */
class ServedNode {
  readonly notes: string[] = [];
  /** What the port for coordinators was told to use, newest last. */
  readonly used: TransportIdentity[] = [];
  opened = 0;
  current: () => Promise<TransportIdentity>;
  status: () => Promise<IdentityStatus>;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  ended = false;

  constructor(broken: Partial<Pick<ServedNode, "current" | "status">> = {}) {
    this.current = broken.current ?? (async () => identityWith([]));
    this.status =
      broken.status ??
      (async () => ({
        node_id: "node",
        authority: "external",
        certificate,
        requested: false,
        revoked: 0,
      }));
    const host = new FakeHost();
    const context = host.context();
    const identity = {
      current: () => this.current(),
      status: () => this.status(),
    } as unknown as NodeIdentity;
    const listener = (address: string): Listener => ({
      address,
      connections: 0,
      useIdentity: (used) => void this.used.push(used),
      close: async () => undefined,
    });
    const parts: AgentParts = {
      // A clock that stands still would be asked without end.
      context: { ...context, clock: { ...context.clock, sleep: untilAborted } },
      node: new NodeOperations(context),
      identity,
      certificates: new Certificates(context, identity),
      info: async () => ({}) as NodeInfo,
      version: "0.0.0-test",
      manager: {
        ready: async () => undefined,
        stopping: async () => undefined,
        alive: async () => undefined,
        watchdogMs: undefined,
      },
      listenLocal: async () => listener("local"),
      listenFleet: async (address) => {
        this.opened += 1;
        return listener(address);
      },
      metrics: { answered: () => undefined, serve: async () => async () => undefined },
      ownUse: () => ({ residentBytes: 0, cpuSeconds: 0 }),
      note: (line) => this.notes.push(line),
      stop: this.#stop.signal,
    };
    this.#running = serveAgent(parts, {
      intervalMs: 30_000,
      listen: "127.0.0.1:4433",
      metricsPort: undefined,
      rateLimit: { perSecond: 10, burst: 100 },
    }).finally(() => {
      this.ended = true;
    });
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}

function identityWith(revoked: readonly string[]): TransportIdentity {
  return { keyPem: "", certificatePem: "one", caPem: "", revoked: new Set(revoked) };
}

async function untilAborted(_: number, signal?: AbortSignal): Promise<void> {
  await new Promise<void>((_resolve, reject) => {
    signal?.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
    if (signal?.aborted === true) reject(signal.reason as Error);
  });
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn += 1) await new Promise(setImmediate);
}

suite("a daemon", () => {
  let node: ServedNode | undefined;
  afterEach(async () => {
    await node?.stop();
  });

  test("goes on when its identity cannot be read, whatever is wrong with it", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    node = new ServedNode();
    await settle();
    node.status = async () => {
      throw new Error("EIO: i/o error, read");
    };
    for (let times = 0; times < 3; times += 1) {
      t.mock.timers.tick(pollMs);
      await settle();
    }
    assert.equal(node.ended, false);
    const said = node.notes.filter((line) => /a defect: .*EIO/.test(line));
    assert.equal(said.length, 1, "once, not every few seconds");
  });

  test("begins with a damaged revocation list, and lets nobody in from outside", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const damaged = async (): Promise<never> => {
      throw new NotTrustedError("this is no revocation list in PEM form");
    };
    node = new ServedNode({ current: damaged, status: damaged });
    await settle();
    assert.equal(node.ended, false);
    assert.equal(node.opened, 0);
    assert.match(node.notes.join("\n"), /nobody from outside can ask this node: .*revocation list/);
  });

  test("forgets no revocation while it runs, also when the list is lost", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    node = new ServedNode();
    await settle();
    const look = async (revoked: readonly string[]): Promise<string[] | undefined> => {
      assert.ok(node);
      node.current = async () => identityWith(revoked);
      t.mock.timers.tick(pollMs);
      await settle();
      const last = node.used.at(-1);
      return last === undefined ? undefined : [...last.revoked].toSorted();
    };
    assert.deepEqual(await look(["a"]), ["a"]);
    assert.deepEqual(await look([]), ["a"]);
    assert.deepEqual(await look(["b"]), ["a", "b"], "a list of the same length is news too");
  });
});
