import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { NodeUnderTest } from "./node-under-test.ts";
import { TestTerminal } from "../hosts/test-terminal.ts";
import { filesWith, processWith } from "./search.ts";

/** Two tenants with real microVMs of the `hello` flake: the main job, without OpenClaw's weight. */
describe("two tenants with hello workers", () => {
  const canary = `canary-${randomBytes(12).toString("hex")}`;
  let node: NodeUnderTest;
  let secretsFolder: string;

  before(async () => {
    node = await NodeUnderTest.make("hello");
    secretsFolder = await mkdtemp("/dev/shm/mvm-test-");
    await node.mvm("tenant", "create", "acme");
    await node.mvm("tenant", "create", "zenith");
    for (const pool of ["acme/web", "zenith/web"]) {
      await node.mvm("pool", "create", pool, "--flake", "builtin:hello", "--mem", "256");
    }
    const secrets = join(secretsFolder, "secrets.json");
    await writeFile(secrets, JSON.stringify({ API_KEY: canary }), { mode: 0o600 });
    await node.mvm("tenant", "secrets", "set", "acme", "--from-file", secrets);
    await rm(secretsFolder, { recursive: true });
    await node.mvm("pool", "scale", "acme/web", "--running", "2");
    await node.mvm("pool", "scale", "zenith/web", "--running", "1");
  });

  after(async () => {
    await node[Symbol.asyncDispose]();
  });

  const of = async (tenant: string): Promise<{ address: string; ip: string; pid: number }[]> =>
    (await node.instances(tenant)).map(({ address, ip, pid }) => ({ address, ip, pid: pid ?? 0 }));

  const fetchFrom = (address: string, url: string): ReturnType<NodeUnderTest["exec"]> =>
    node.exec(address, "timeout", "5", "wget", "-q", "-O", "-", url);

  it("runs what was asked for, each instance on its tenant's subnet", async () => {
    const all = await node.instances();
    assert.deepEqual(
      all.map(({ status, ip }) => `${status} ${ip}`),
      ["running 10.240.1.2", "running 10.240.1.3", "running 10.240.2.2"],
    );
  });

  it("answers HTTP from the host", async () => {
    const [first] = await of("acme");
    assert.ok(first);
    const answer = await node.get(`http://${first.ip}:8080/`, 10_000);
    assert.equal(answer, `hello from ${first.address.split("/")[2]}\n`);
  });

  it("lets guests of one tenant reach each other, by address and by name", async () => {
    const [first, second] = await of("acme");
    assert.ok(first && second);
    const byAddress = await fetchFrom(first.address, `http://${second.ip}:8080/`);
    assert.match(byAddress.stdout, /^hello from i-/, byAddress.stderr);
    const name = `${second.address.split("/")[2]}.web.mvm`;
    const byName = await fetchFrom(first.address, `http://${name}:8080/`);
    assert.equal(byName.stdout, `hello from ${second.address.split("/")[2]}\n`, byName.stderr);
  });

  it("keeps a guest of one tenant from another's guests and gateway address", async () => {
    const [mine] = await of("acme");
    const [other] = await of("zenith");
    assert.ok(mine && other);
    assert.notEqual((await fetchFrom(mine.address, `http://${other.ip}:8080/`)).exitCode, 0);
    assert.notEqual((await fetchFrom(other.address, `http://${mine.ip}:8080/`)).exitCode, 0);
    const ping = await node.exec(mine.address, "ping", "-c", "1", "-W", "2", "10.240.2.1");
    assert.notEqual(ping.exitCode, 0);
    const own = await node.exec(mine.address, "ping", "-c", "1", "-W", "2", "10.240.1.1");
    assert.equal(own.exitCode, 0, own.stdout);
  });

  it("finds the network of running guests as the records say, and holds it to a new policy", async () => {
    const [mine] = await of("acme");
    assert.ok(mine);
    assert.deepEqual(await node.json("net", "verify"), { differences: [] });
    for (const policy of [["none"], ["allow", "--egress-domain", "listed.example"], ["open"]]) {
      await node.mvm("pool", "update", "acme/web", "--egress", ...policy);
      assert.deepEqual(await node.json("net", "verify"), { differences: [] }, policy.join(" "));
      // Whatever it is, the guest finds the names and guests of its own tenant.
      const name = `${mine.address.split("/")[2]}.web.mvm`;
      const found = await fetchFrom(mine.address, `http://${name}:8080/`);
      assert.match(found.stdout, /^hello from i-/, `${policy.join(" ")}: ${found.stderr}`);
    }
  });

  it("gives a command's output, exit code and input through the agent", async () => {
    const [first] = await of("acme");
    assert.ok(first);
    const result = await node.exec(first.address, "sh", "-c", "echo out; echo err >&2; exit 7");
    assert.deepEqual([result.stdout, result.exitCode], ["out\n", 7]);
    assert.match(result.stderr, /^err$/m);
    const piped = await node.try(["instance", "exec", "-i", first.address, "--", "wc", "-c"], {
      input: "12345",
    });
    assert.equal(piped.stdout.trim(), "5");
  });

  it("gives a shell in a guest a terminal: size, keys, Ctrl-C and exit code go through", async () => {
    const [first] = await of("acme");
    assert.ok(first);
    const terminal = new TestTerminal();
    const ended = terminal.run(node.command("instance", "exec", "-it", first.address, "--", "sh"), {
      env: { ...node.env, TERM: "vt102" },
      timeout_ms: 120_000,
    });
    await terminal.until(/# $/, 60_000);
    await terminal.type('tty; stty size; echo "$TERM on $(hostname)"\r');
    const id = first.address.split("/")[2];
    await terminal.until(new RegExp(`/dev/pts/\\d+\n33 101\nvt102 on ${id}\n`), 20_000);
    await terminal.type(
      `sh -c "trap 'stty size' WINCH; echo watching; while sleep 1; do :; done"\r`,
    );
    await terminal.until(/\nwatching\n/, 20_000);
    await terminal.resize({ rows: 44, cols: 122 });
    await terminal.until(/\n44 122\n/, 20_000);
    await terminal.type("\u0003");
    await terminal.until(/\^C[^]*# $/, 20_000);
    await terminal.type("exit 9\r");
    assert.equal(await ended, 9, terminal.shown);
  });

  it("looks at the health and the logs of a guest in which somebody has a shell", async () => {
    const [first] = await of("acme");
    assert.ok(first);
    const terminal = new TestTerminal();
    const ended = terminal.run(node.command("instance", "exec", "-it", first.address, "--", "sh"), {
      env: node.env,
      timeout_ms: 300_000,
    });
    await terminal.until(/# $/, 60_000);
    // It would say what it held, and end with 1.
    await node.mvm("pool", "scale", "acme/web", "--running", "2");
    assert.notEqual((await node.mvm("instance", "logs", first.address)).trim(), "");
    const second = await node.exec(first.address, "true");
    assert.equal(second.exitCode, 4, second.stderr);
    assert.match(second.stderr, /talks to the guest of/);
    await terminal.type("exit\r");
    assert.equal(await ended, 0, terminal.shown);
  });

  it("ends what ran on a terminal when mvm is killed", async () => {
    const [first] = await of("acme");
    assert.ok(first);
    const terminal = new TestTerminal();
    const script = "trap '' HUP; echo begun; exec sleep 4321";
    const command = node.command(
      "instance",
      "exec",
      "-it",
      first.address,
      "--",
      "sh",
      "-c",
      script,
    );
    const ended = terminal.run(command, { env: node.env, timeout_ms: 120_000 });
    await terminal.until(/begun/, 60_000);
    terminal.cut();
    await ended;
    const found = await node.exec(first.address, "sh", "-c", "ps | grep '[s]leep 4321'");
    assert.deepEqual([found.stdout, found.exitCode], ["", 1], found.stderr);
  });

  it("shows what services log and what the console printed", async () => {
    const [first] = await of("acme");
    assert.ok(first);
    assert.notEqual((await node.mvm("instance", "logs", first.address)).trim(), "");
    assert.match(
      await node.mvm("instance", "logs", first.address, "--console"),
      /mvm-agent: ready/,
    );
  });

  it("keeps the guest's clock with the host's", async () => {
    const [first] = await of("acme");
    assert.ok(first);
    const { stdout } = await node.exec(first.address, "date", "+%s");
    const difference = Math.abs(Number(stdout) - Date.now() / 1000);
    assert.ok(difference < 3, `${difference} s apart`);
    const source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    const clock = await node.exec(first.address, "cat", source);
    assert.doesNotMatch(clock.stdout, /jiffies/);
  });

  it("delivers secrets to their tenant's guests only, read-only, and nowhere else", async () => {
    const [mine] = await of("acme");
    const [other] = await of("zenith");
    assert.ok(mine && other);
    const inside = await node.exec(mine.address, "cat", "/run/secrets/secrets.json");
    assert.deepEqual(JSON.parse(inside.stdout), { API_KEY: canary });
    const written = await node.exec(mine.address, "touch", "/run/secrets/x");
    assert.notEqual(written.exitCode, 0);
    const elsewhere = await node.exec(other.address, "cat", "/run/secrets/secrets.json");
    assert.deepEqual(JSON.parse(elsewhere.stdout), {});
    const found = await filesWith(node.roots.stateDir, canary);
    assert.deepEqual(found, [join(node.roots.stateDir, "tenants", "acme", "secrets.json")]);
    assert.equal(await processWith(canary), undefined);
    const listed = await node.mvm("tenant", "secrets", "list", "acme");
    assert.match(listed, /API_KEY/);
    assert.doesNotMatch(listed, new RegExp(canary));
  });

  it("measures an instance by its VMM, its guest, its disk and its port", async () => {
    const [first] = await of("acme");
    assert.ok(first);
    const stats = JSON.parse(await node.mvm("instance", "stats", first.address, "--json")) as {
      vmm: { pid: number; cpu_seconds: number; resident_mib: number };
      guest: { memory_available_mib: number; services: { health: string }[] };
      traffic: { received_bytes: number; sent_bytes: number };
    };
    assert.equal(stats.vmm.pid, first.pid);
    assert.ok(stats.vmm.cpu_seconds > 0 && stats.vmm.resident_mib > 30, JSON.stringify(stats));
    const available = stats.guest.memory_available_mib;
    assert.ok(available > 0 && available < 256, JSON.stringify(stats));
    assert.ok(stats.guest.services.every(({ health }) => health === "healthy"));
    assert.ok(stats.traffic.received_bytes > 0 && stats.traffic.sent_bytes > 0);
    const all = JSON.parse(await node.mvm("node", "stats", "--json")) as {
      vmms: { count: number };
    };
    assert.equal(all.vmms.count, 3);
  });

  it("explains an instance with its guest's health, its console and what happened to it", async () => {
    const [first] = await of("acme");
    assert.ok(first);
    const text = await node.mvm("explain", first.address);
    assert.match(text, /it is running since/);
    assert.match(text, /its guest is healthy/);
    assert.match(text, /InstanceTransition .* from=ready {2}to=running/);
    assert.match(text, /Last console lines:\n {2}\S/);
  });

  it("pauses an instance and lets it run again at the same address", async () => {
    const [first] = await of("acme");
    assert.ok(first);
    await node.mvm("instance", "warm", first.address);
    const refused = await node.exec(first.address, "true");
    assert.equal(refused.exitCode, 4);
    await node.mvm("instance", "wake", first.address);
    assert.match(await node.get(`http://${first.ip}:8080/`, 10_000), /^hello/);
    const [after] = await of("acme");
    assert.equal(after?.pid, first.pid);
  });

  it("stops an instance in good order and starts it again", async () => {
    const [, second] = await of("acme");
    assert.ok(second);
    // Also when somebody has a shell in it.
    const terminal = new TestTerminal();
    const shell = node.command("instance", "exec", "-it", second.address, "--", "sh");
    const ended = terminal.run(shell, { env: node.env, timeout_ms: 120_000 });
    await terminal.until(/# $/, 60_000);
    const { exitCode, stderr } = await node.try(["instance", "stop", second.address]);
    assert.equal(exitCode, 0, stderr);
    assert.doesNotMatch(stderr, /by force/);
    assert.equal(await ended, 1, terminal.shown);
    const stopped = await node.instances("acme");
    assert.equal(stopped.find(({ address }) => address === second.address)?.status, "stopped");
    await node.mvm("instance", "start", second.address);
    assert.match(await node.get(`http://${second.ip}:8080/`, 60_000), /^hello/);
  });

  it("replaces a VMM that was killed, and says why it failed", async () => {
    const [instance] = await of("zenith");
    assert.ok(instance);
    process.kill(instance.pid, "SIGKILL");
    const scaled = await node.try(["pool", "scale", "zenith/web", "--running", "1"]);
    assert.equal(scaled.exitCode, 0, scaled.stderr);
    assert.match(scaled.stderr, /FAILED: its VMM is gone/);
    const [again] = await of("zenith");
    assert.notEqual(again?.pid, instance.pid);
    assert.match(await node.get(`http://${instance.ip}:8080/`, 10_000), /^hello/);
  });

  it("goes on after mvm was killed while a guest booted, with one VMM for the instance", async () => {
    const scale = ["pool", "scale", "zenith/web", "--running", "2"];
    await node.killWhen(scale, /starting\n/);
    await node.mvm(...scale);
    const instances = await node.instances("zenith");
    assert.deepEqual(
      instances.map(({ status, operation }) => [status, operation]),
      [
        ["running", null],
        ["running", null],
      ],
    );
    assert.equal((await node.mvm("doctor", "--leaks")).trim(), "0 leaks");
  });

  it("recovers from a reboot of the host", async () => {
    for (const { pid } of await of("zenith")) process.kill(pid, "SIGKILL");
    await node.namespace.run("nft", ["flush", "ruleset"]);
    await node.namespace.ip("link delete br-tenant-2");
    await node.mvm("pool", "scale", "zenith/web", "--running", "1");
    const running = (await node.instances("zenith")).filter(({ status }) => status === "running");
    assert.equal(running.length, 1);
    const [mine] = await of("acme");
    assert.ok(mine && running[0]);
    assert.match(await node.get(`http://${running[0].ip}:8080/`, 10_000), /^hello/);
    assert.notEqual((await fetchFrom(mine.address, `http://${running[0].ip}:8080/`)).exitCode, 0);
  });

  it("leaves the host as it was when its tenants are destroyed", async () => {
    for (const tenant of ["acme", "zenith"]) {
      await node.mvm("tenant", "destroy", tenant, "--force", "--wipe-volumes", "--yes");
    }
    assert.equal((await node.mvm("doctor", "--leaks")).trim(), "0 leaks");
    const links = await node.namespace.run("ip", ["-brief", "link"]);
    assert.deepEqual(links.trim().split("\n").length, 1, links);
    assert.equal((await node.namespace.run("nft", ["list", "ruleset"])).trim(), "");
    for (const tenant of ["acme", "zenith"]) {
      const left = await readdir(join(node.roots.stateDir, "tenants", tenant));
      assert.deepEqual(left, ["audit.head", "audit.log"]);
    }
    assert.deepEqual(await readdir(join(node.roots.runDir, "i")), []);
    const images = await readdir(join(node.roots.stateDir, "images"));
    assert.deepEqual(
      images.filter((name) => name.length === 64),
      [],
    );
    assert.equal(await processWith(node.roots.folder), undefined);
  });
});
