import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { type LoopStatus, ReconcileLoop } from "../../src/node/agent/reconcile-loop.ts";
import { NodeOperations } from "../../src/node/operations.ts";
import {
  type WrittenDocument,
  bytesOf,
  writtenDocument,
  writtenPool,
  writtenTenant,
} from "../builders/documents.ts";
import { FakeHost } from "../fakes/fake-host.ts";
import { assertConverged } from "./checkers.ts";

const options = { intervalMs: 30_000, drainMs: 60_000 };
const acme = parseTenantId("acme");
const minutes = 60_000;

function acmeWeb(running: number, changes: Record<string, unknown> = {}): WrittenDocument {
  const desired_counts = { running, warm: 0, sleeping: 0 };
  return writtenDocument([
    writtenTenant("acme", 3, [writtenPool("web", { desired_counts, ...changes })]),
  ]);
}

/** A daemon on a host, until it is stopped. */
class Daemon implements AsyncDisposable {
  readonly loop: ReconcileLoop;
  readonly #run: Promise<void>;

  constructor(host: FakeHost) {
    this.loop = new ReconcileLoop(host.context(), options);
    this.#run = this.loop.run();
  }

  async until(what: (status: LoopStatus) => boolean): Promise<LoopStatus> {
    const found = Promise.withResolvers<LoopStatus>();
    let passes = 0;
    const unsubscribe = this.loop.subscribe((status) => {
      passes += 1;
      if (what(status)) found.resolve(status);
      if (passes > 5000) found.reject(new Error(`still ${JSON.stringify(status)}`));
    });
    try {
      return await found.promise;
    } finally {
      unsubscribe();
    }
  }

  async stop(): Promise<void> {
    this.loop.stop();
    await this.#run;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

async function push(host: FakeHost, document: WrittenDocument): Promise<void> {
  await new NodeOperations(host.context()).acceptDesired({ document: bytesOf(document) });
}

test("a daemon brings a node to the document in force and keeps it there", async () => {
  const host = new FakeHost();
  await push(host, acmeWeb(2));
  await using daemon = new Daemon(host);
  const status = await daemon.until(({ state }) => state === "converged");
  assert.equal(status.hash, host.desired?.hash);
  assertConverged(host, "first");
  const [vmm] = host.living();
  assert.ok(vmm);
  vmm.alive = false;
  await daemon.until(({ state }) => state !== "converged");
  await daemon.until(({ state }) => state === "converged");
  assert.equal(host.living().length, 2);
});

test("a document that is pushed is begun at once, not at the next interval", async () => {
  const host = new FakeHost();
  await push(host, acmeWeb(1));
  await using daemon = new Daemon(host);
  await daemon.until(({ state }) => state === "converged");
  await push(host, acmeWeb(2));
  const before = host.nowMs;
  daemon.loop.wake();
  await daemon.until(({ state }) => state === "reconciling");
  assert.ok(host.nowMs - before <= options.intervalMs);
  await daemon.until(({ state }) => state === "converged");
  assert.equal(host.living().length, 2);
});

test("a newer document ends the pass under way at the next action", async () => {
  const host = new FakeHost();
  await push(host, acmeWeb(8));
  host.turns = (call) => (call === "vmm.start" ? 30 : 0);
  await using daemon = new Daemon(host);
  await daemon.until(() => host.living().length >= 1);
  await push(host, acmeWeb(1));
  daemon.loop.wake();
  host.nowMs += 2 * minutes;
  await daemon.until(({ state }) => state === "converged");
  assert.equal(host.living().length, 1);
  const started = host.calls.filter((call) => call === "vmm.start").length;
  assert.ok(started <= 4, `${started} were started`);
});

test("a VMM that outlived the daemon is adopted, not started twice", async () => {
  const host = new FakeHost();
  await push(host, acmeWeb(2));
  {
    await using daemon = new Daemon(host);
    await daemon.until(({ state }) => state === "converged");
  }
  const pids = host.living().map(({ pid }) => pid);
  await using daemon = new Daemon(host);
  await daemon.until(({ state }) => state === "converged");
  assert.deepEqual(
    host.living().map(({ pid }) => pid),
    pids,
  );
  assert.deepEqual(host.violations, []);
});

test("when it stops, running actions end, no other begins, and VMMs stay up", async () => {
  const host = new FakeHost();
  await push(host, acmeWeb(6));
  host.turns = (call) => (call === "vmm.start" ? 10 : 0);
  const daemon = new Daemon(host);
  await daemon.until(() => host.calls.includes("vmm.start"));
  await daemon.stop();
  assert.equal(daemon.loop.status().state, "stopped");
  const living = host.living().length;
  assert.ok(living >= 1 && living <= 2, `${living} live`);
  for (const instance of host.records().tenants[0]?.instances ?? []) {
    assert.equal(instance.operation, null, "no action was left half done");
  }
});

test("an action that does not end in its time is interrupted, and settled by the next daemon", async () => {
  const host = new FakeHost();
  await push(host, acmeWeb(1));
  // The guest's agent is waited for as long as it takes.
  host.stuckGuests = true;
  const daemon = new Daemon(host);
  await daemon.until(() => host.living().length === 1);
  await daemon.stop();
  assert.equal(host.living().length, 1);
  host.stuckGuests = false;
  await using next = new Daemon(host);
  await next.until(({ state }) => state === "converged");
  assert.deepEqual(host.violations, []);
  assert.equal(host.calls.filter((call) => call === "vmm.start").length, 1);
});

describe("what fails", () => {
  test("backs off from 1 s doubling to 10 min, and is reported with its cause", async () => {
    const host = new FakeHost();
    host.badFlakes.add("path:/bad");
    await push(host, acmeWeb(1, { flake_ref: "path:/bad" }));
    const tries: number[] = [];
    host.fault = (call) => {
      if (call === "builder.build") tries.push(host.nowMs);
      return "none";
    };
    await using daemon = new Daemon(host);
    const status = await daemon.until(() => tries.length >= 14);
    assert.equal(status.last_error?.object, "acme/web");
    assert.match(status.last_error.cause, /the flake is broken/);
    const gaps = tries.slice(1).map((at, index) => Math.floor((at - (tries[index] ?? 0)) / 1000));
    for (const [index, gap] of gaps.entries()) {
      const expected = Math.min(600, 2 ** index);
      assert.ok(gap >= expected && gap <= expected + 31, `gap ${index}: ${gap} s of ${expected}`);
    }
  });

  test("does not hold up others, and is tried at once with a new document", async () => {
    const host = new FakeHost();
    host.badFlakes.add("path:/bad");
    const both = (flake_ref: string): WrittenDocument =>
      writtenDocument([
        writtenTenant("bad", 4, [writtenPool("web", { flake_ref })]),
        ...acmeWeb(1).tenants,
      ]);
    await push(host, both("path:/bad"));
    await using daemon = new Daemon(host);
    await daemon.until(({ state }) => state === "failing" && host.living().length === 1);
    await push(host, both("path:/good"));
    daemon.loop.wake();
    await daemon.until(({ state }) => state === "converged");
    assert.equal(host.living().length, 2);
    assert.equal(daemon.loop.status().last_error, null);
  });

  test("never ends the daemon, be it the store itself", async () => {
    const host = new FakeHost();
    await push(host, acmeWeb(1));
    host.fault = (call) => (call === "store.load" ? "fail" : "none");
    await using daemon = new Daemon(host);
    const status = await daemon.until(({ state }) => state === "failing");
    assert.match(status.last_error?.cause ?? "", /store\.load failed/);
    host.fault = () => "none";
    await daemon.until(({ state }) => state === "converged");
  });

  test("is said once for as long as it lasts, not at every try", async () => {
    const host = new FakeHost();
    host.fault = (call) => (call === "store.load" ? "fail" : "none");
    const said: string[] = [];
    const context = { ...host.context(), onProgress: (line: string) => void said.push(line) };
    const loop = new ReconcileLoop(context, options);
    let passes = 0;
    loop.subscribe(() => {
      passes += 1;
      if (passes === 100) loop.stop();
    });
    await loop.run();
    assert.equal(
      said.filter((line) => line.startsWith("reconciling: ")).length,
      1,
      said.join("\n"),
    );
  });
});

test("tenants of this node are looked after without any document", async () => {
  const host = new FakeHost();
  const node = new NodeOperations(host.context());
  const web = { tenant: acme, pool: parsePoolId("web") };
  await node.createTenant({ tenant: acme });
  await node.createPool({
    address: web,
    role: "worker",
    flakeRef: "builtin:hello",
    profile: "minimal",
    resources: { vcpus: 1, mem_mib: 256, data_disk_mib: 0 },
  });
  await node.scalePool(web, { running: 1 });
  host.reboot();
  await using daemon = new Daemon(host);
  await daemon.until(({ state }) => state === "converged");
  assert.equal(host.living().length, 1);
});

test("what a quota refuses or a minimum defers is written down once, not on every pass", async () => {
  const host = new FakeHost();
  const counts = (running: number): WrittenDocument =>
    writtenDocument([
      writtenTenant(
        "acme",
        3,
        [
          writtenPool("web", {
            desired_counts: { running, warm: 0, sleeping: 0 },
            runtime_policy: { min_running_seconds: 86_400 },
          }),
        ],
        { quota: { max_running: 2 } },
      ),
    ]);
  await push(host, counts(3));
  await using daemon = new Daemon(host);
  const passes = async (count: number): Promise<void> => {
    let seen = 0;
    await daemon.until(() => (seen += 1) > count);
  };
  const linesOf = async (type: string): Promise<number> => {
    const events = (await host.context().audit.last(acme, 10_000)) ?? [];
    return events.filter((event) => event.type === type).length;
  };
  await daemon.until(({ held }) => held.some(({ reason }) => reason === "quota"));
  await passes(200);
  assert.equal(await linesOf("QuotaRefused"), 1);
  await push(host, counts(1));
  await daemon.until(({ held }) => held.some(({ to }) => to !== undefined));
  await passes(200);
  assert.equal(await linesOf("TransitionDeferred"), 1);
});

test("an operator's command has its turn between two rounds", async () => {
  const host = new FakeHost();
  await push(host, acmeWeb(1));
  await using daemon = new Daemon(host);
  await daemon.until(({ state }) => state === "converged");
  await new NodeOperations(host.context()).updateTenant(
    acme,
    { pinned: true },
    { dryRun: false, overrideMs: minutes },
  );
  const status = await daemon.until(({ state }) => state === "held");
  assert.equal(status.held[0]?.reason, "document-overridden");
});
