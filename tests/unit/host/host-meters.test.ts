import assert from "node:assert/strict";
import { mkdir, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { parseInstanceId, parsePoolId, parseTenantId } from "../../../src/domain/ids.ts";
import { HostMeters, trafficOf } from "../../../src/host/host-meters.ts";
import { processStartTicks } from "../../../src/host/processes.ts";
import { dataDiskPath } from "../../../src/host/roots.ts";
import { TemporaryRoots } from "../../builders/temporary-roots.ts";

const address = {
  tenant: parseTenantId("acme"),
  pool: parsePoolId("web"),
  instance: parseInstanceId("i-00000002"),
};

test("a process's CPU time and memory are its own, and grow with its work", async () => {
  await using roots = await TemporaryRoots.make();
  const meters = new HostMeters(roots);
  const startTicks = (await processStartTicks(process.pid)) ?? 0;
  const self = { id: "self", runDir: "", pid: process.pid, startTicks };
  const before = await meters.process(self);
  assert.ok(before);
  const held = Buffer.alloc(64 * 1024 * 1024, 1);
  // Work, and not waiting: on a busy machine the two differ.
  const { user } = process.cpuUsage();
  while (process.cpuUsage().user - user < 300_000) Math.sqrt(held.length);
  const after = await meters.process(self);
  assert.ok(after);
  assert.ok(after.cpu_seconds - before.cpu_seconds >= 0.1, `${after.cpu_seconds}`);
  assert.ok(after.resident_mib - before.resident_mib >= 50, `${after.resident_mib}`);
});

test("a pid that belongs to another process now has no figures", async () => {
  await using roots = await TemporaryRoots.make();
  const meters = new HostMeters(roots);
  const other = { id: "x", runDir: "", pid: process.pid, startTicks: 1 };
  assert.equal(await meters.process(other), undefined);
  assert.equal(await meters.process({ ...other, pid: 4_194_303 }), undefined);
});

test("a sparse data disk takes less than its size", async () => {
  await using roots = await TemporaryRoots.make();
  const meters = new HostMeters(roots);
  assert.equal(await meters.dataDisk(address), undefined);
  const path = dataDiskPath(roots, address);
  await mkdir(join(path, ".."), { recursive: true });
  const file = await open(path, "w");
  await file.truncate(64 * 1024 * 1024);
  await file.write(Buffer.alloc(3 * 1024 * 1024, 1));
  await file.sync();
  await file.close();
  assert.deepEqual(await meters.dataDisk(address), { size_mib: 64, allocated_mib: 3 });
});

test("a guest has sent what its TAP received", async () => {
  const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 11 1 0 0 0 0 0 0 12 1 0 0 0 0 0 0
 tn1i2: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0
tn1i23:7 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0
`;
  assert.deepEqual(trafficOf(text, "tn1i2"), { received_bytes: 2000, sent_bytes: 1000 });
  assert.deepEqual(trafficOf(text, "tn1i23"), { received_bytes: 8, sent_bytes: 7 });
  assert.equal(trafficOf(text, "tn1i9"), undefined);
  assert.ok(trafficOf(await readFile("/proc/net/dev", "utf8"), "lo"), "of the real file");
});

test("the host's own figures are there and make sense", async () => {
  await using roots = await TemporaryRoots.make();
  await mkdir(roots.stateDir, { recursive: true });
  const use = await new HostMeters(roots).host();
  assert.ok(use.vcpus >= 1 && use.load_1m >= 0);
  assert.ok(use.memory_total_mib > use.memory_available_mib && use.memory_available_mib > 0);
  assert.ok(use.disk_total_mib >= use.disk_free_mib && use.disk_free_mib > 0);
});
