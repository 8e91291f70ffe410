import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { NotFoundError } from "../../../src/domain/errors.ts";
import type { GuestPaths } from "../../../src/guest/guest-paths.ts";
import { startTicksOf } from "../../../src/guest/process-group.ts";
import { ServiceRunner } from "../../../src/guest/service-runner.ts";
import { Supervisor } from "../../../src/guest/supervisor.ts";
import type { ServiceReport } from "../../../src/protocol/guest-messages.ts";
import type { GuestService } from "../../../src/domain/guest-service.ts";

const backoff = { minMs: 40, maxMs: 160, resetAfterMs: 60_000 };
let root: string;
let count = 0;
const running: Supervisor[] = [];

before(async () => {
  root = await mkdtemp(join(tmpdir(), "mvm-supervisor-"));
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((supervisor) => supervisor.stop(200)));
});
after(async () => {
  await rm(root, { recursive: true });
});

const me = userInfo();

async function makePaths(): Promise<GuestPaths> {
  const folder = join(root, String((count += 1)));
  const paths = {
    services: join(folder, "services"),
    logs: join(folder, "logs"),
    agentRun: join(folder, "run"),
    passwd: join(folder, "passwd"),
    group: join(folder, "group"),
    integrations: join(folder, "integrations"),
    config: join(folder, "config.json"),
  };
  for (const path of [paths.services, paths.logs, paths.agentRun]) {
    await mkdir(path, { recursive: true });
  }
  await writeFile(paths.passwd, `me:x:${me.uid}:${me.gid}:me:${folder}:/bin/sh\n`);
  return paths;
}

async function start(paths: GuestPaths, services: Partial<GuestService>[]): Promise<Supervisor> {
  for (const service of services) {
    const plain = { user: "me", env: {}, port: null, health: null, needs: [] };
    const path = join(paths.services, `${service.name}.json`);
    await writeFile(path, JSON.stringify({ ...plain, ...service }));
  }
  const supervisor = new Supervisor(paths, backoff);
  running.push(supervisor);
  await supervisor.start();
  return supervisor;
}

/** Waits until the report is as asked for, at most 10 s. */
async function reportWhen(
  supervisor: Supervisor,
  wanted: (reports: readonly ServiceReport[]) => boolean,
): Promise<ServiceReport[]> {
  const deadlineMs = performance.now() + 10_000;
  for (;;) {
    const reports = await supervisor.report();
    if (wanted(reports)) return reports;
    assert.ok(performance.now() < deadlineMs, JSON.stringify(reports));
    await sleep(20);
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => void server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

const web = (port: number, body: string): string[] => [
  process.execPath,
  "-e",
  `require("http").createServer((q, r) => r.end(${JSON.stringify(body)})).listen(${port}, "127.0.0.1")`,
];

void test("a service that crashes is started again, ever later, and says why it crashed", async () => {
  const paths = await makePaths();
  const script = "date +%s%N >> $HOME/starts; echo something broke >&2; exit 78";
  const supervisor = await start(paths, [{ name: "crash", command: ["/bin/sh", "-c", script] }]);
  const [report] = await reportWhen(supervisor, ([first]) => first?.health === "unhealthy");
  assert.match(report?.detail ?? "", /exit code 78; last line: something broke/);
  await sleep(700);
  const starts = (await readFile(join(paths.services, "../starts"), "utf8")).trim().split("\n");
  // At 0, 40, 120, 280, 440, 600 ms and the time it takes to run.
  assert.ok(starts.length >= 3 && starts.length <= 6, String(starts.length));
});

void test("a service that ended this moment is stopped already", async () => {
  const paths = await makePaths();
  const service = { name: "short", command: ["/bin/true"], user: "me", env: {}, port: null };
  const runner = new ServiceRunner({ ...service, health: null, needs: [] }, paths, backoff);
  await runner.start();
  const { pid } = runner;
  assert.ok(pid !== undefined);
  // Its exit has been seen, and its last words are still waited for.
  while (existsSync(`/proc/${pid}`)) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(runner.pid, pid);
  const stopped = runner.stop(60_000).then(() => "stopped");
  assert.equal(await Promise.race([stopped, sleep(2000, "still waiting")]), "stopped");
});

void test("a service with health is starting until it answers as expected, then healthy", async () => {
  const port = await freePort();
  const health = { path: "/healthz", expect: '"ok":true' };
  const command = web(port, '{"ok":true}');
  const supervisor = await start(await makePaths(), [{ name: "web", command, port, health }]);
  const [first] = await supervisor.report();
  assert.equal(first?.health, "starting");
  await reportWhen(supervisor, ([report]) => report?.health === "healthy");
});

void test("an answer without what is expected is not healthy", async () => {
  const port = await freePort();
  const health = { path: "/", expect: '"ok":true' };
  const command = web(port, "<html>ok</html>");
  const supervisor = await start(await makePaths(), [{ name: "web", command, port, health }]);
  const [report] = await reportWhen(
    supervisor,
    ([first]) => first?.detail.includes("answered") === true,
  );
  assert.deepEqual(report, {
    name: "web",
    health: "starting",
    detail: 'GET / answered 200 without "\\"ok\\":true"',
  });
});

void test("a service starts once what it needs is healthy", async () => {
  const port = await freePort();
  const supervisor = await start(await makePaths(), [
    { name: "after", command: ["/bin/sleep", "60"], needs: ["web"] },
    { name: "lost", command: ["/bin/sleep", "60"], needs: ["nothing"] },
    { name: "web", command: web(port, "x"), port },
  ]);
  const [first, lost] = await supervisor.report();
  assert.deepEqual(first, {
    name: "after",
    health: "starting",
    detail: "waits until web is healthy",
  });
  assert.match(lost?.detail ?? "", /needs nothing, which this guest does not have/);
  await reportWhen(supervisor, ([report]) => report?.health === "healthy");
});

void test("a definition that is wrong, or a user that is missing, is reported, and the others run", async () => {
  const paths = await makePaths();
  await writeFile(join(paths.services, "bad.json"), '{"name":"bad","command":"sh"}');
  const supervisor = await start(paths, [
    { name: "good", command: ["/bin/sleep", "60"] },
    { name: "nouser", command: ["/bin/sleep", "60"], user: "ghost" },
    { name: "noprogram", command: ["/no/such/program"] },
  ]);
  const reports = await reportWhen(supervisor, (all) =>
    all.every((report) => report.health !== "starting"),
  );
  const byName = new Map(reports.map((report) => [report.name, report]));
  assert.equal(byName.get("good")?.health, "healthy");
  assert.match(byName.get("bad")?.detail ?? "", /is not a service/);
  assert.match(byName.get("nouser")?.detail ?? "", /no user ghost/);
  assert.match(byName.get("noprogram")?.detail ?? "", /cannot start.*ENOENT/);
});

void test("a log never grows beyond its two files, and its last lines can be asked for", async () => {
  const paths = await makePaths();
  const script = "yes a-line-of-some-length | head -c 5000000; printf '\\nthe end\\n'; sleep 60";
  const supervisor = await start(paths, [{ name: "loud", command: ["/bin/sh", "-c", script] }]);
  const deadlineMs = performance.now() + 10_000;
  while (supervisor.logs("loud", 1).at(-1) !== "the end") {
    assert.ok(performance.now() < deadlineMs);
    await sleep(20);
  }
  for (const name of ["loud.log", "loud.log.1"]) {
    assert.ok((await stat(join(paths.logs, name))).size <= 1024 * 1024);
  }
  assert.equal(supervisor.logs("loud", 2000).length, 2000);
  assert.deepEqual(supervisor.logs(null, 1), ["loud: the end"]);
  assert.throws(() => supervisor.logs("quiet", 1), NotFoundError);
});

void test("stop ends the whole process group, by SIGKILL when SIGTERM is ignored", async () => {
  const paths = await makePaths();
  const script = "trap '' TERM; sleep 60 & echo $! > $HOME/child; echo $$ > $HOME/pid; wait; wait";
  const supervisor = await start(paths, [{ name: "deaf", command: ["/bin/sh", "-c", script] }]);
  await sleep(300);
  const startMs = performance.now();
  await supervisor.stop(300);
  assert.ok(performance.now() - startMs >= 290);
  for (const name of ["pid", "child"]) {
    const pid = Number(await readFile(join(paths.services, "..", name), "utf8"));
    await sleep(50);
    assert.equal(startTicksOf(pid), undefined, name);
  }
});

void test("what an agent that died left running is ended before it is started again", async () => {
  const paths = await makePaths();
  const service = { name: "kept", command: ["/bin/sh", "-c", "echo $$ >> $HOME/pids; sleep 60"] };
  await start(paths, [service]);
  await sleep(300);
  await start(paths, [service]);
  await sleep(300);
  const pids = (await readFile(join(paths.services, "../pids"), "utf8")).trim().split("\n");
  assert.equal(startTicksOf(Number(pids[0])), undefined);
  assert.notEqual(startTicksOf(Number(pids[1])), undefined);
});
