import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { NodeClient } from "../../src/coordinator/node-client.ts";
import { dialUnix } from "../../src/host/transport/unix-transport.ts";

const projectDir = join(import.meta.dirname, "..", "..");
const signal = AbortSignal.timeout(240_000);
const isRoot = process.getuid?.() === 0;

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A node without microVMs: what is pushed to it holds no tenant. */
suite("mvm agent serve", { timeout: 240_000, skip: isRoot ? false : "mvm needs root" }, () => {
  let folder = "";
  let agent: ChildProcess | undefined;
  let log = "";
  let port = 0;
  let metricsPort = 0;
  const path = (...parts: string[]): string => join(folder, ...parts);
  const env = (): Record<string, string> => ({
    PATH: process.env["PATH"] ?? "",
    MVM_STATE_DIR: path("state"),
    MVM_CONFIG_DIR: path("etc"),
    MVM_RUN_DIR: path("run"),
    MVM_COORDINATOR_DIR: path("coordinator"),
  });

  function mvm(...args: string[]): Ended {
    const ended = spawnSync(process.execPath, [join(projectDir, "src", "main.ts"), ...args], {
      env: env(),
      encoding: "utf8",
      timeout: 120_000,
    });
    return { code: ended.status, stdout: ended.stdout, stderr: ended.stderr };
  }

  function ok(...args: string[]): string {
    const { code, stdout, stderr } = mvm(...args);
    assert.equal(code, 0, `${args.join(" ")}: ${stderr}`);
    return stdout;
  }

  const node = (): string => `127.0.0.1:${port}`;

  async function start(more: Record<string, string> = {}, ...args: string[]): Promise<void> {
    log = "";
    agent = spawn(
      process.execPath,
      [
        join(projectDir, "src", "main.ts"),
        "agent",
        "serve",
        "--listen",
        node(),
        "--metrics-port",
        String(metricsPort),
        "--interval-secs",
        "2",
        ...args,
      ],
      { env: { ...env(), ...more }, stdio: ["ignore", "pipe", "pipe"] },
    );
    for (const stream of [agent.stdout, agent.stderr]) {
      stream?.on("data", (chunk: Buffer) => {
        log += chunk.toString();
      });
    }
    await until(() => log.includes(" serves on "), "the agent serves");
  }

  async function until(isSo: () => boolean | Promise<boolean>, what: string): Promise<void> {
    for (let tries = 0; tries < 600; tries += 1) {
      if (await isSo()) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert.fail(`${what}: ${log}`);
  }

  /** @returns its exit code, or the signal that ended it. */
  async function stop(how: NodeJS.Signals): Promise<number | NodeJS.Signals | null> {
    const running = agent;
    agent = undefined;
    if (running === undefined) return null;
    const ended = new Promise<number | NodeJS.Signals | null>((resolve) => {
      running.once("exit", (code, by) => resolve(code ?? by));
    });
    running.kill(how);
    return ended;
  }

  const scrape = async (what: string): Promise<{ status: number; text: string }> => {
    const answer = await fetch(`http://127.0.0.1:${metricsPort}/${what}`);
    return { status: answer.status, text: await answer.text() };
  };

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-agent-"));
    port = 20_000 + (process.pid % 10_000);
    metricsPort = port + 10_000;
    await mkdir(path("run"));
    await writeFile(path("ca.crt"), ok("coordinator", "ca", "init", "--name", "fleet"));
    await mkdir(path("etc", "trusted_keys"), { recursive: true });
    const publicKey = ok("coordinator", "keygen");
    await writeFile(path("etc", "trusted_keys", "fleet.pub"), publicKey);
    ok("agent", "certs", "init", "--ca", path("ca.crt"));
    await writeFile(path("node.csr"), ok("agent", "certs", "request"));
    const issued = ok("coordinator", "ca", "issue", "--request", path("node.csr"));
    await writeFile(path("node.crt"), issued);
    ok("agent", "certs", "install", "--certificate", path("node.crt"));
    await writeFile(
      path("nothing.json"),
      JSON.stringify({ schema_version: 1, node_id: "local", tenants: [] }),
    );
    await start();
  });
  after(async () => {
    await stop("SIGKILL");
    await rm(folder, { recursive: true });
  });

  test("answers a coordinator's status in words and as JSON", () => {
    assert.match(ok("coordinator", "status", "--node", node()), /State: +converged/);
    const [result] = JSON.parse(ok("coordinator", "status", "--node", node(), "--json")) as [
      { ok: boolean; result: { info: { attestation: string; waivers: unknown[] } } },
    ];
    assert.equal(result.ok, true);
    assert.equal(result.result.info.attestation, "none");
    assert.deepEqual(result.result.info.waivers, []);
  });

  test("takes a signed document, once; the second push of it plans nothing", () => {
    const push = ["coordinator", "push", "--desired", path("nothing.json"), "--wait"];
    assert.match(ok(...push, "--node", node()), /generation 1, .* is in force; converged/);
    assert.match(ok(...push, "--node", node()), /generation 1, .* was in force already/);
    assert.match(ok("coordinator", "plan", "--node", node()), /nothing to do/);
  });

  test("names the node that cannot be asked beside those that can, and exits with 1", () => {
    const other = `127.0.0.1:${port + 1}`;
    const { code, stdout, stderr } = mvm(
      "coordinator",
      "status",
      "--node",
      node(),
      "--node",
      other,
    );
    assert.equal(code, 1);
    assert.match(stdout, /^NODE .*\n127\.0\.0\.1:\d+ +[0-9a-f-]{36} /);
    assert.match(stderr, /does not answer/);
  });

  test("refuses an old generation by its type, and writes it down", async () => {
    await writeFile(
      path("other.json"),
      JSON.stringify({
        schema_version: 1,
        node_id: "local",
        tenants: [],
        prune_unknown_pools: true,
      }),
    );
    const push = ["coordinator", "push", "--desired", path("other.json"), "--node", node()];
    ok(...push);
    const { code, stderr } = mvm(...push, "--generation", "1");
    assert.equal(code, 4);
    assert.match(stderr, /generation 1, and this node took generation 2 already/);
    const audit = await readFile(path("state", "audit", "audit.log"), "utf8");
    assert.match(audit, /"DesiredRefused".*old-generation/);
  });

  test("says all that is wrong with a document before any node is asked", async () => {
    await writeFile(
      path("bad.json"),
      '{"schema_version":1,"tenants":[{"tenant_id":7}],"colour":1}',
    );
    const { code, stderr } = mvm(
      "coordinator",
      "push",
      "--desired",
      path("bad.json"),
      "--node",
      node(),
    );
    assert.equal(code, 2);
    for (const place of ["node_id", "colour", "tenants"]) assert.match(stderr, RegExp(place));
  });

  test("goes over to a renewed certificate while requests go on", async () => {
    const before = ok("agent", "certs", "status");
    assert.match(ok("coordinator", "ca", "renew", "--node", node()), /certificate [0-9a-f]+ until/);
    assert.notEqual(ok("agent", "certs", "status"), before);
    await until(() => log.includes("new certificate"), "it uses the new one");
    ok("coordinator", "status", "--node", node());
  });

  test("refuses a coordinator whose certificate was revoked", async () => {
    await mkdir(path("second"));
    ok("coordinator", "ca", "issue", "--coordinator", "second", "--out-dir", path("second"));
    const asSecond = (): Ended => {
      const second = { ...env(), MVM_COORDINATOR_DIR: path("second") };
      const args = [join(projectDir, "src", "main.ts"), "coordinator", "status", "--node", node()];
      const ended = spawnSync(process.execPath, args, { env: second, encoding: "utf8" });
      return { code: ended.status, stdout: ended.stdout, stderr: ended.stderr };
    };
    assert.equal(asSecond().code, 0);
    ok("coordinator", "ca", "revoke", "second", "--node", node());
    const { code, stderr } = asSecond();
    assert.notEqual(code, 0);
    assert.match(stderr, /revoked/);
    ok("coordinator", "status", "--node", node());
    const audit = await readFile(path("state", "audit", "audit.log"), "utf8");
    assert.match(audit, /"RevocationsInstalled"/);
    assert.match(audit, /"PeerRefused".*revoked/);
  });

  test("answers local programs on its socket, which only its group may open", async () => {
    const socket = path("run", "agent.sock");
    assert.equal((await stat(socket)).mode & 0o777, 0o660);
    const client = new NodeClient(dialUnix(socket), "local");
    const hello = await client.hello(signal);
    assert.equal(hello.role, "node");
  });

  test("gives metrics, and says that it is healthy and ready", async () => {
    assert.deepEqual(await scrape("healthz"), { status: 200, text: "ok\n" });
    assert.deepEqual(await scrape("readyz"), { status: 200, text: "ready\n" });
    const { text } = await scrape("metrics");
    assert.match(text, /^mvm_reconcile_state\{state="converged"\} 1$/m);
    assert.match(text, /^mvm_desired_generation 2$/m);
    assert.match(text, /^mvm_api_requests_total\{op="ReconcileSigned",outcome="ok"\} \d+$/m);
    assert.match(text, /^mvm_certificate_expiry_timestamp_seconds \d+/m);
    assert.equal((await scrape("else")).status, 404);
    const listed = await readFile(join(projectDir, "docs", "metrics.md"), "utf8");
    const names = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name = ""]) => name);
    assert.ok(names.length > 10);
    for (const name of names) assert.ok(listed.includes(`\`${name}\``), `docs/metrics.md: ${name}`);
  });

  test("a second daemon of the same node is refused", () => {
    const { code, stderr } = mvm("agent", "serve", "--listen", `127.0.0.1:${port + 2}`);
    assert.equal(code, 7);
    assert.match(stderr, /somebody listens on .*agent\.sock already/);
  });

  test("ends in good order by SIGTERM, and takes up again what it was told", async () => {
    assert.equal(await stop("SIGTERM"), 0);
    await assert.rejects(stat(path("run", "agent.sock")), /ENOENT/);
    await start();
    assert.match(ok("coordinator", "status", "--node", node()), /Document: +generation 2/);
  });

  test("starts again after kill -9, over the socket that was left", async () => {
    await stop("SIGKILL");
    await stat(path("run", "agent.sock"));
    await start();
    ok("coordinator", "status", "--node", node());
  });

  test("in production says what it enforces, shows waivers everywhere, and answers though it lacks a promise", async () => {
    await stop("SIGTERM");
    const waivers = [
      "[[waive]]",
      'promise = "cgroup-v2"',
      'reason = "an old host"',
      "until = 2999-01-01T00:00:00Z",
    ];
    await writeFile(path("etc", "waivers.toml"), waivers.join("\n"), { mode: 0o644 });
    await chmod(path("etc"), 0o755);
    try {
      await start({ MVM_PRODUCTION: "1" });
      assert.match(log, /enforced: signature: /);
      assert.match(log, /WAIVED: cgroup-v2: .*an old host/);
      assert.match(log, /NOT ENFORCED: runtime-isolation: /);
      assert.match(log, /NOT ENFORCED: privilege-separation: the daemon has privileges/);
      assert.match(log, /no microVM starts on this node while it lacks .*runtime-isolation/);
      const status = ok("coordinator", "status", "--node", node());
      assert.match(status, /Production: +yes/);
      assert.match(status, /Waived: +cgroup-v2 until 2999-01-01T00:00:00\.000Z: an old host/);
      assert.match(status, /Lacks: .*runtime-isolation/);
      // A plan of a document is asked for as it would be pushed: signed.
      const plan = ["coordinator", "plan", "--desired", path("nothing.json"), "--node", node()];
      assert.match(ok(...plan), /nothing to do/);
      const { text } = await scrape("metrics");
      assert.match(text, /^mvm_production 1$/m);
      assert.match(text, /^mvm_waiver\{promise="cgroup-v2"\} 1$/m);
      assert.match(text, /^mvm_promise_lacking\{promise="runtime-isolation"\} 1$/m);
      const listed = await readFile(join(projectDir, "docs", "metrics.md"), "utf8");
      assert.ok(listed.includes("`mvm_promise_lacking`"));
      const audit = await readFile(path("state", "audit", "audit.log"), "utf8");
      assert.match(audit, /"ProductionStarted".*"waived":\["cgroup-v2"\]/);
      assert.match(audit, /"PromiseWaived".*an old host/);
    } finally {
      await stop("SIGTERM");
      await rm(path("etc", "waivers.toml"));
      await start();
    }
  });

  test("tells systemd that it is ready, alive and stopping", async () => {
    await stop("SIGTERM");
    const heard = path("notify.txt");
    const socket = path("notify.sock");
    // Node has no datagram sockets of the Unix kind.
    const script = `use Socket; socket(my $s, PF_UNIX, SOCK_DGRAM, 0); bind($s, sockaddr_un("${socket}")) or die; open(my $f, ">>", "${heard}"); $f->autoflush(1); while (1) { recv($s, my $m, 4096, 0); $m =~ s/\\n/ /g; print $f "$m\\n"; }`;
    const listener = spawn("perl", ["-MIO::Handle", "-e", script]);
    try {
      await until(async () => (await stat(socket).catch(() => undefined)) !== undefined, "perl");
      await start({ NOTIFY_SOCKET: socket, WATCHDOG_USEC: "1000000" });
      const words = async (): Promise<string> => readFile(heard, "utf8");
      await until(async () => (await words()).includes("READY=1"), "ready");
      await until(async () => (await words()).split("WATCHDOG=1").length > 2, "alive, again");
      assert.equal(await stop("SIGTERM"), 0);
      await until(async () => (await words()).includes("STOPPING=1"), "stopping");
    } finally {
      listener.kill();
      await start();
    }
  });
});
