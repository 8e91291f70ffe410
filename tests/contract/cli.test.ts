import assert from "node:assert/strict";
import { mkdir, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { HostExec } from "../../src/host/exec.ts";
import { NetNamespace } from "../hosts/net-namespace.ts";
import { type MvmResult, type TestRoots, emptyRoots } from "../test-host.ts";

const canary = "canary-91c2d7";
const exec = new HostExec();

/** The command line as a process, on a machine where mvm was never used and with a network of its own. */
describe("the command line", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  let roots: TestRoots;
  let namespace: NetNamespace;

  before(async () => {
    roots = await emptyRoots();
    namespace = await NetNamespace.make("cli");
    await succeeds("tenant create acme --max-pools 2 --max-running 2");
    await succeeds("pool create acme/web --flake builtin:hello");
  });
  after(async () => {
    try {
      // What the tests made of networks is this namespace's and goes by mvm's own hand.
      const { stdout } = await mvm("tenant list --json");
      for (const { tenant_id } of JSON.parse(stdout) as { tenant_id: string }[]) {
        await mvm(`tenant destroy ${tenant_id} --force --yes`);
      }
    } finally {
      await namespace[Symbol.asyncDispose]();
      await roots[Symbol.asyncDispose]();
    }
  });

  const mvm = (line: string, input?: string): Promise<MvmResult> =>
    roots.mvm(line.split(" "), { namespace, ...(input === undefined ? {} : { input }) });
  /** Runs a command that is expected to succeed. @returns what it wrote to standard output. */
  const succeeds = async (line: string, input?: string): Promise<string> => {
    const { exitCode, stdout, stderr } = await mvm(line, input);
    assert.equal(exitCode, 0, `mvm ${line}: ${stderr}`);
    return stdout;
  };
  const json = async (line: string): Promise<unknown> => JSON.parse(await succeeds(line));

  /** Each command that fails, its exit code and what it says. */
  const failures: readonly (readonly [command: string, exitCode: number, says: RegExp])[] = [
    ["frobnicate", 2, /there is no command frobnicate\n {2}next: see --help/],
    ["tenant frobnicate", 2, /frobnicate/],
    ["tennat list", 2, /there is no command tennat\n {2}next: did you mean `tenant`\? See --help/],
    ["tenant lst", 2, /there is no command lst\n {2}next: did you mean `list`\\?/],
    ["tenant list --jsno", 2, /--jsno, did you mean --json\?/],
    ["tenant list --frobnicate", 2, /frobnicate/],
    ["tenant info", 2, /tenant/],
    ["tenant info acme extra", 2, /extra|arguments/i],
    ["tenant info ACME", 2, /"ACME" is not a tenant id/],
    ["pool info acme", 2, /"acme" is not a pool address/],
    ["instance info i-123", 2, /"i-123" is not an instance id/],
    ["instance stop acme/web/x", 2, /"x" is not an instance id/],
    ["pool create acme/db --flake builtin:hello --role boss", 2, /"boss" is not a role/],
    ["pool create acme/db --flake builtin:hello --cpus 0", 2, /whole number from 1/],
    ["pool create acme/db --flake builtin:hello --cpus 33", 2, /whole number from 1 to 32/],
    ["pool create acme/db --flake builtin:hello --mem 0", 2, /whole number from 128/],
    ["pool create acme/db --flake builtin:hello --mem 99999999", 2, /to 1048576/],
    ["pool create acme/db --flake builtin:hello --mem 1e3", 2, /"1e3" is not a whole number/],
    ["pool create acme/db --flake builtin:hello --data-disk -1", 2, /data-disk|whole number/],
    ["pool create acme/db --flake builtin:hello --data-disk 99999999999", 2, /to 16777216/],
    ["add host --vmm xen", 2, /xen/],
    ["add host --signing-key /nonexistent", 2, /cannot be read/],
    ["add host --production", 2, /production needs the CA.*[^]*--ca/],
    ["add host --ca /etc/hostname", 6, /no certificate in PEM form/],
    ["add host --signing-key /etc/hostname", 6, /not base64 of the 32 bytes/],
    ["add host --vmm firecracker", 7, /no Firecracker driver/],
    ["pool create acme/db", 2, /flake/],
    ["pool create acme/db --flake builtin:hello --egress closed", 2, /closed/],
    ["pool create acme/db --flake builtin:hello --egress allow", 2, /neither a CIDR nor a domain/],
    ["pool create acme/db --flake builtin:hello --egress-port 80", 2, /open takes no CIDRs/],
    [
      "pool create acme/db --flake builtin:hello --egress allow --egress-cidr 10.0.0.1/8",
      2,
      /10\.0\.0\.1\/8 is an address inside a network/,
    ],
    [
      "pool create acme/db --flake builtin:hello --egress allow --egress-domain *.example",
      2,
      /is not a domain/,
    ],
    ["pool create acme/db --flake builtin:hello --profile ../x", 2, /"..\/x" is not a profile/],
    ["pool build acme/web --timeout 5", 2, /whole number from 10/],
    ["pool rollback acme/web", 2, /revision/],
    ["pool rollback acme/web --revision newest", 2, /"newest" is not the hash of an image/],
    ["pool rollback acme/web --revision 0abc", 3, /the pool has no image 0abc/],
    ["pool rollback acme/web --revision 0abc --dry-run", 3, /the pool has no image 0abc/],
    ["pool scale acme/web", 2, /nothing to scale/],
    ["pool scale acme/web --running 101", 2, /from 0 to 100/],
    ["pool scale acme/web --running -1", 2, /running/],
    ["tenant create bad --net-id 4096", 2, /from 0 to 4095/],
    ["tenant create bad --subnet 10.239.1.0/24", 2, /not a \/24 inside 10\.240\.0\.0\/12/],
    ["tenant create bad --subnet 10.240.1.0/16", 2, /not a \/24 inside/],
    [
      "tenant create bad --net-id 5 --subnet 10.240.6.0/24",
      2,
      /net id 5 has subnet 10\.240\.5\.0\/24/,
    ],
    ["tenant destroy acme", 2, /--yes/],
    ["pool destroy acme/web", 2, /--yes/],
    ["instance exec i-00000001", 2, /no command is given/],
    ["tenant secrets set acme --from-file /nonexistent", 2, /cannot be read/],
    ["tenant update acme", 2, /nothing to update/],
    ["tenant update acme --max-pools x", 2, /whole number/],
    ["tenant update acme --pinned --override 10x", 2, /"10x" is no length of time/],
    ["tenant update acme --pinned --override 25h", 2, /longer than a day/],
    ["tenant update acme --pinned --override 10m", 2, /managed on this node/],
    ["pool update acme/web", 2, /nothing to update/],
    ["pool update acme/web --cpus 0", 2, /whole number from 1/],
    ["events acme --verify --follow", 2, /exclude each other/],
    ["explain acme/web/x", 2, /"x" is not an instance id/],
    ["tenant info nobody", 3, /there is no tenant nobody\n {2}next: see: mvm tenant list/],
    ["tenant info acne", 3, /there is no tenant acne\n {2}next: did you mean acme\?/],
    ["pool info acme/wed", 3, /there is no pool acme\/wed\n {2}next: did you mean acme\/web\?/],
    ["connect amce", 3, /did you mean acme\?/],
    ["events acm", 3, /did you mean acme\?/],
    ["pool info acme/nothing", 3, /there is no pool acme\/nothing/],
    ["pool list --tenant nobody", 3, /there is no tenant nobody/],
    ["instance info i-0badc0de", 3, /there is no instance i-0badc0de/],
    ["instance info acme/web/i-0badc0de", 3, /there is no instance/],
    ["connect nobody", 3, /there is no tenant nobody/],
    ["new openclaw demo --config /nonexistent", 2, /\/nonexistent cannot be read/],
    ["new openclaw acme --dry-run", 4, /acme exists and is no openclaw deployment/],
    ["new openclaw demo --net-id 1 --dry-run", 4, /net id 1 is in use by tenant acme/],
    ["new nothing demo", 3, /there is no template/],
    ["events nobody", 3, /no audit log of a tenant nobody/],
    ["explain nobody", 3, /there is no tenant nobody/],
    ["explain i-0badc0de", 3, /there is no instance i-0badc0de/],
    ["instance stats i-0badc0de", 3, /there is no instance i-0badc0de/],
    ["tenant update nobody --pinned", 3, /there is no tenant nobody/],
    ["pool update acme/web --role gateway", 4, /role is fixed/],
    ["tenant create acme", 4, /acme exists already/],
    ["tenant create other --net-id 1", 4, /acme/],
    ["tenant create other --subnet 10.240.1.0/24", 4, /acme/],
    ["pool create acme/web --flake builtin:hello", 4, /acme\/web exists already/],
    ["tenant destroy acme --yes", 4, /--force/],
    ["pool scale acme/web --running 3", 5, /quota max_running allows 2: 0 used, 3 asked/],
    ["pool scale acme/web --warm 9", 5, /quota max_warm allows 8/],
    ["pool scale acme/web --running 3 --dry-run", 5, /max_running/],
    ["tenant update acme --max-pools 0", 5, /max_pools allows 0: 1 used, 0 asked/],
    ["doctor", 7, /^/],
  ];
  for (const [command, exitCode, says] of failures) {
    it(`mvm ${command} ends with ${exitCode} and says why`, async () => {
      const { exitCode: code, stdout, stderr } = await mvm(command);
      assert.equal(code, exitCode, stderr);
      assert.match(stderr, says);
      assert.ok(!/\n\s+at |this is a defect/.test(stderr), stderr);
      if (exitCode !== 7) assert.equal(stdout, "");
    });
  }

  it("the audit trail tells of it all, and a changed line is named with exit code 6", async () => {
    assert.equal((await mvm("pool scale acme/web --running 3")).exitCode, 5);
    const { stdout } = await mvm("events acme --json --last 1000");
    const told = JSON.parse(stdout) as { sequence: number; type: string; by: string }[];
    assert.deepEqual(
      told.map(({ sequence }) => sequence),
      told.map((_, index) => index + 1),
    );
    assert.deepEqual(
      told.slice(0, 2).map(({ type }) => type),
      ["TenantCreated", "PoolCreated"],
    );
    assert.ok(told.some(({ type }) => type === "QuotaRefused"));
    assert.ok(!stdout.includes(canary));
    // This node was not prepared and has no key: that is all that is wrong.
    const unsigned = await mvm("events acme --verify --json");
    assert.equal(unsigned.exitCode, 6);
    const { problems } = JSON.parse(unsigned.stdout) as { problems: { problem: string }[] };
    assert.deepEqual(
      problems.map(({ problem }) => problem),
      ["the head is not signed: this node has no key. Make one with: mvm add host"],
    );
    const path = join(roots.stateDir, "tenants/acme/audit.log");
    const text = await readFile(path, "utf8");
    await writeFile(path, text.replace("PoolCreated", "PoolCreatex"));
    const changed = await mvm("events acme --verify");
    assert.equal(changed.exitCode, 6);
    assert.match(changed.stderr, /^line 2: its hash does not fit its content: it was changed$/m);
    await writeFile(path, text);
  });

  it("commands at once on one tenant leave its audit trail whole, with a line for each", async () => {
    const limits = [31, 32, 33, 34, 35];
    const results = await Promise.all(
      limits.map((limit) => mvm(`tenant update acme --max-vcpus ${limit}`)),
    );
    assert.deepEqual(
      results.map(({ exitCode }) => exitCode),
      limits.map(() => 0),
    );
    const told = (await json("events acme --json --last 5")) as { type: string }[];
    const updated = told.filter(({ type }) => type === "TenantUpdated");
    assert.ok(updated.length >= 4, "one of them may have changed nothing");
    const { stdout } = await mvm("events acme --verify --json");
    const { problems } = JSON.parse(stdout) as { problems: { problem: string }[] };
    assert.equal(problems.length, 1, "that the head is not signed");
    await succeeds("tenant update acme --max-vcpus 32");
  });

  it("events --follow shows what comes, a line each", async () => {
    const following = roots.mvm(["events", "acme", "--last", "1", "--follow", "--json"], {
      namespace,
      timeoutMs: 6000,
    });
    await delay(2500);
    await succeeds("tenant update acme --max-warm 7");
    const { stdout } = await following;
    const lines = stdout.trim().split("\n");
    assert.equal(lines.length, 2);
    const { type, fields } = JSON.parse(lines[1] ?? "") as { type: string; fields: unknown };
    assert.deepEqual([type, fields], ["TenantUpdated", { changes: ["max_warm: 8 → 7"] }]);
  });

  it("what a document manages is changed with an override only, and that is shown", async () => {
    const path = join(roots.stateDir, "tenants/acme/pools/web/pool.json");
    const text = await readFile(path, "utf8");
    await writeFile(path, text.replace('"local"', '"document"'));
    const refused = await mvm("pool update acme/web --pinned");
    assert.equal(refused.exitCode, 4);
    assert.match(refused.stderr, /managed by a document[^]*--override 10m/);
    await succeeds("pool update acme/web --pinned --override 10m");
    for (const command of ["pool info acme/web", "explain acme/web"]) {
      assert.match(await succeeds(command), /overridden until 20/, command);
    }
    assert.match(await succeeds("connect acme"), /Overridden by hand:\n {2}acme\/web until 20/);
    assert.match(await succeeds("events acme"), /DocumentOverridden {2}acme\/web/);
    await writeFile(path, text);
  });

  it("updates say what differs, and a dry run changes nothing", async () => {
    assert.equal(
      await succeeds("pool update acme/web --cpus 2 --min-running 5 --dry-run"),
      "vcpus: 1 → 2\nmin_running_seconds: 60 → 5\n",
    );
    assert.equal(
      await succeeds("pool update acme/web --cpus 1 --dry-run"),
      "acme/web is as asked already\n",
    );
    const said = await json("tenant update acme --max-warm 8 --json");
    assert.deepEqual(said, { object: "acme", changes: ["max_warm: 7 → 8"], dry_run: false });
  });

  it("a pool is explained, and the node measured, on a machine without any instance", async () => {
    const text = await succeeds("explain acme/web");
    assert.match(text, /0 running, 0 warm and 0 sleeping are wanted/);
    assert.match(text, /max_pools +1 +2/);
    const stats = (await json("node stats --json")) as {
      host: { memory_total_mib: number };
      tenants: { tenant_id: string; audit_head: { sequence: number } }[];
    };
    assert.ok(stats.host.memory_total_mib > 100);
    assert.equal(stats.tenants[0]?.tenant_id, "acme");
    assert.ok((stats.tenants[0]?.audit_head.sequence ?? 0) > 2);
    assert.match(await succeeds("node stats"), /^acme +0\/0 +0\/0/m);
  });

  it("a refusal leaves no tenant, pool or net id behind", async () => {
    assert.deepEqual(
      ((await json("tenant list --json")) as { tenant_id: string }[]).map(
        ({ tenant_id }) => tenant_id,
      ),
      ["acme"],
    );
    assert.deepEqual(
      ((await json("pool list --json")) as { address: string }[]).map(({ address }) => address),
      ["acme/web"],
    );
    const { used } = JSON.parse(await readFile(join(roots.stateDir, "networks.json"), "utf8")) as {
      used: number[];
    };
    assert.deepEqual(used, [1]);
  });

  it("a third pool of a tenant that may have two is over quota", async () => {
    await succeeds("pool create acme/second --flake builtin:hello");
    const { exitCode, stderr } = await mvm("pool create acme/third --flake builtin:hello");
    assert.equal(exitCode, 5);
    assert.match(stderr, /quota max_pools allows 2: 2 used, 1 asked/);
    await succeeds("pool destroy acme/second --yes");
  });

  it("on a host that is not prepared, nothing starts and what to do is said", async () => {
    const { exitCode, stdout, stderr } = await mvm("pool build acme/web");
    assert.equal(exitCode, 7, stderr);
    assert.match(stderr, /mvm add host/);
    assert.equal(stdout, "");
  });

  it("doctor names what is missing and the command that mends it", async () => {
    const { exitCode, stdout } = await mvm("doctor --json");
    assert.equal(exitCode, 7);
    const findings = JSON.parse(stdout) as Record<string, string>[];
    for (const finding of findings) {
      assert.deepEqual(Object.keys(finding), ["feature", "status", "detail", "fix"]);
    }
    const missing = findings.filter(({ status }) => status === "missing");
    assert.ok(missing.some(({ feature }) => feature === "payload kernel"));
    assert.ok(missing.every(({ fix }) => fix === "mvm add host"));
  });

  it("a host on which nothing runs has no leaks", async () => {
    assert.deepEqual(await json("doctor --leaks --json"), []);
    assert.match(await succeeds("doctor --leaks"), /^0 leaks$/m);
  });

  it("a tenant's creation that was killed leaves a key that is counted, until it is made again", async () => {
    const env = { MVM_CRASH_AT: "key:made" };
    const killed = await roots.mvm(["tenant", "create", "torn"], { namespace, env });
    assert.equal(killed.stdout, "", "it has not come to its end");
    const counted = await mvm("doctor --leaks");
    assert.equal(counted.exitCode, 1);
    assert.match(counted.stdout, /keys\/torn\.key.*make it again, or remove the file[^]*1 leak/);
    await succeeds("tenant create torn");
    assert.match(await succeeds("doctor --leaks"), /^0 leaks$/m);
    await succeeds("tenant destroy torn --yes");
    assert.match(await succeeds("doctor --leaks"), /^0 leaks$/m);
  });

  it("a mount of an instance that does not run is counted", async () => {
    const folder = join(roots.runDir, "i", "i-0badc0de");
    await mkdir(folder, { recursive: true });
    await exec.run("mount", ["-t", "tmpfs", "mvm-test", folder], { timeoutMs: 10_000 });
    try {
      const leaks = (await mvm("doctor --leaks --json")).stdout;
      assert.deepEqual(
        (JSON.parse(leaks) as { kind: string; name: string }[]).map(({ kind, name }) => [
          kind,
          name,
        ]),
        [
          ["run-folder", folder],
          ["mount", folder],
        ],
      );
    } finally {
      await exec.run("umount", [folder], { timeoutMs: 10_000 });
      await rm(join(roots.runDir, "i"), { recursive: true });
    }
  });

  it("tenant info --json has its documented shape", async () => {
    const info = (await json("tenant info acme --json")) as Record<string, unknown>;
    assert.deepEqual(Object.keys(info), [
      "tenant_id",
      "managed_by",
      "net_id",
      "subnet",
      "gateway",
      "bridge",
      "quotas",
      "used",
      "pools",
      "instances",
      "template",
      "created_at",
      "destroying",
      "pinned",
      "override_until",
    ]);
    assert.equal(info["subnet"], "10.240.1.0/24");
    assert.equal(info["gateway"], "10.240.1.1");
    assert.equal(info["bridge"], "br-tenant-1");
    assert.deepEqual(await json("tenant list --json"), [info]);
  });

  it("pool info --json has its documented shape", async () => {
    const { created_at, images, ...info } = (await json("pool info acme/web --json")) as Record<
      string,
      unknown
    >;
    assert.deepEqual(images, [], "those of its last five builds; `pool list` leaves them out");
    assert.ok(Number.isFinite(Date.parse(String(created_at))));
    assert.deepEqual(info, {
      address: "acme/web",
      managed_by: "local",
      role: "worker",
      flake_ref: "builtin:hello",
      profile: "minimal",
      instance_resources: { vcpus: 1, mem_mib: 512, data_disk_mib: 0 },
      desired_counts: { running: 0, warm: 0, sleeping: 0 },
      runtime_policy: {
        min_running_seconds: 60,
        min_warm_seconds: 30,
        drain_timeout_seconds: 30,
        graceful_shutdown_seconds: 15,
      },
      egress: { mode: "open" },
      pinned: false,
      critical: false,
      override_until: null,
      secret_scopes: [],
      revisions: [],
      instances: 0,
    });
    assert.deepEqual(await json("pool list --tenant acme --json"), [{ ...info, created_at }]);
  });

  it("a pool keeps the egress policy it was made with", async () => {
    await succeeds(
      "pool create acme/db --flake builtin:hello --egress allow --egress-domain B.example,a.example --egress-port 443",
    );
    const { egress } = (await json("pool info acme/db --json")) as { egress: unknown };
    assert.deepEqual(egress, {
      mode: "allow",
      cidrs: [],
      domains: ["a.example", "b.example"],
      ports: [443],
    });
    assert.match(
      await succeeds("pool info acme/db"),
      /Egress: +allow a\.example, b\.example on ports 443/,
    );
    await succeeds("pool destroy acme/db --yes");
  });

  it("lists of nothing are empty lists as JSON, and only a heading as text", async () => {
    assert.deepEqual(await json("instance list --json"), []);
    assert.match(await succeeds("instance list"), /^INSTANCE\s+STATUS\s+IP\s+IMAGE\s+SINCE\n$/);
  });

  it("node info --json tells what an unprepared node lacks", async () => {
    const info = (await json("node info --json")) as Record<string, unknown>;
    assert.equal(info["node_id"], null);
    assert.equal(info["prepared"], false);
    assert.equal(typeof info["vcpus"], "number");
  });

  it("a dry run of a new deployment says what would be made, by template and manifest, and makes nothing", async () => {
    const manifest = join(roots.folder, "deploy.toml");
    const pool = `[[pools]]
pool_id = "workers"
flake_ref = "builtin:hello"
instance_resources = { vcpus = 1, mem_mib = 256, data_disk_mib = 0 }
desired_counts = { running = 3 }
`;
    await writeFile(manifest, `tenant_id = "demo"\n[network]\ntenant_net_id = 77\n${pool}`);
    const line = `new openclaw demo --config ${manifest} --dry-run`;
    assert.deepEqual((await succeeds(line)).trimEnd().split("\n"), [
      "demo: tenant is made, with subnet 10.240.77.0/24",
      "demo/gateways: pool is made: gateway of builtin:openclaw, 2 vCPUs, 1024 MiB, data disk 0 MiB; running 1, warm 0, sleeping 0",
      "demo: secrets are generated: OPENCLAW_GATEWAY_TOKEN",
      "demo/workers: pool is made: worker of builtin:hello, 1 vCPUs, 256 MiB, data disk 0 MiB; running 3, warm 0, sleeping 0",
    ]);
    assert.equal((await mvm("tenant info demo")).exitCode, 3);

    const twice = await mvm(`${line} --net-id 78`);
    assert.equal(twice.exitCode, 2);
    assert.match(twice.stderr, /names the network too[^]*next: leave --net-id and --subnet out/);
    const other = await mvm(`new openclaw other --config ${manifest} --dry-run`);
    assert.equal(other.exitCode, 2);
    assert.match(other.stderr, /is of tenant demo, not of other/);
    assert.deepEqual([twice.stdout, other.stdout], ["", ""]);
  });

  it("a dry run of a scale says what would be done first and changes nothing", async () => {
    // Whether a test before this one made the tenant's network must not matter.
    await succeeds("net repair");
    const before = await json("pool info acme/web --json");
    const plan = await json("pool scale acme/web --running 2 --dry-run --json");
    assert.deepEqual(plan, {
      actions: [{ kind: "build-image", object: "acme/web" }],
      held: [],
    });
    assert.deepEqual(await json("pool info acme/web --json"), before);
  });

  it("progress goes to standard error, and data alone to standard output", async () => {
    const { exitCode, stdout, stderr } = await mvm("tenant create progress --json");
    assert.equal(exitCode, 0, stderr);
    assert.equal((JSON.parse(stdout) as { tenant_id: string }).tenant_id, "progress");
    assert.match(stderr, /progress/);
    await succeeds("tenant destroy progress --yes");
  });

  it("secrets are shown by name and age and never by value", async () => {
    await succeeds("tenant secrets set acme --from-file -", JSON.stringify({ API_KEY: canary }));
    const listed = (await json("tenant secrets list acme --json")) as {
      epoch: number;
      secrets: Record<string, string>[];
      instances: unknown[];
    };
    assert.deepEqual(Object.keys(listed), ["epoch", "secrets", "instances"]);
    assert.deepEqual(
      listed.secrets.map(({ name, origin, changed_at }) => [name, origin, typeof changed_at]),
      [["API_KEY", "set", "string"]],
    );
    assert.deepEqual([listed.epoch > 0, listed.instances], [true, []]);
    for (const command of ["tenant secrets list acme", "tenant info acme --json", "connect acme"]) {
      const { stdout, stderr } = await mvm(command);
      assert.ok(!`${stdout}${stderr}`.includes(canary), command);
    }
  });

  it("setting secrets replaces the whole set", async () => {
    await succeeds(
      "tenant secrets set acme --from-file -",
      JSON.stringify({ OLD: "1", SHARED: "1" }),
    );
    await succeeds("tenant secrets set acme --from-file -", JSON.stringify({ SHARED: "2" }));
    const listed = (await json("tenant secrets list acme --json")) as {
      secrets: { name: string }[];
    };
    assert.deepEqual(
      listed.secrets.map(({ name }) => name),
      ["SHARED"],
    );
  });

  for (const [what, content] of [
    ["no JSON", `{"API_KEY": "${canary}"`],
    ["no object", JSON.stringify([canary])],
    ["a bare string", JSON.stringify(canary)],
    ["a value that is no string", JSON.stringify({ API_KEY: { nested: canary } })],
    ["a name that is none", JSON.stringify({ "API KEY": canary })],
    ["too much", JSON.stringify({ API_KEY: canary.repeat(30_000) })],
  ] as const) {
    it(`a file of secrets that holds ${what} is refused without a word of its values`, async () => {
      const file = join(roots.folder, "secrets.json");
      await writeFile(file, content, { mode: 0o600 });
      for (const source of [file, "-"]) {
        const line = `tenant secrets set acme --from-file ${source}`;
        const { exitCode, stdout, stderr } = await mvm(line, content);
        assert.equal(exitCode, 2, stderr);
        assert.ok(!`${stdout}${stderr}`.includes("canary"), stderr);
      }
    });
  }

  it("a tenant is made with a key of its own, which nothing shows", async () => {
    const path = join(roots.stateDir, "keys", "acme.key");
    const key = await readFile(path);
    assert.equal(key.length, 32);
    assert.equal((await stat(path)).mode & 0o7777, 0o600);
    assert.equal((await stat(join(roots.stateDir, "keys"))).mode & 0o7777, 0o700);
    const status = (await json("tenant key status acme --json")) as Record<string, unknown>;
    assert.deepEqual(Object.keys(status), ["present", "fingerprint", "changed_at", "problem"]);
    assert.match(String(status["fingerprint"]), /^[0-9a-f]{16}$/);
    for (const form of [key.toString("hex"), key.toString("base64")]) {
      assert.ok(!JSON.stringify(status).includes(form));
    }
    assert.ok(!key.toString("hex").includes(String(status["fingerprint"])));
  });

  it("a key that is there is replaced only by force, and the same key again is no change", async () => {
    const path = join(roots.stateDir, "keys", "acme.key");
    const before = await readFile(path);
    const other = Buffer.from(before.map((byte) => byte ^ 255)).toString("hex");
    for (const command of ["import acme --from-file -", "generate acme"]) {
      const { exitCode, stderr } = await mvm(`tenant key ${command}`, other);
      assert.equal(exitCode, 4, stderr);
      assert.match(stderr, /can never be read again[^]*--force/);
      assert.ok(!stderr.includes(other));
    }
    assert.deepEqual(await readFile(path), before);
    await succeeds("tenant key import acme --from-file -", `${before.toString("hex")}\n`);
    assert.deepEqual(await readFile(path), before);
    const nobodyToAsk = await mvm("tenant key import acme --from-file - --force", other);
    assert.equal(nobodyToAsk.exitCode, 2, nobodyToAsk.stderr);
    await succeeds("tenant key import acme --from-file - --force --yes", other);
    assert.equal((await readFile(path)).toString("hex"), other);
    await succeeds("tenant key generate acme --force --yes");
    assert.notEqual((await readFile(path)).toString("hex"), other);
  });

  it("what is no key is refused without a word of it", async () => {
    for (const [content, says] of [
      ["canary", /this is 6 bytes/],
      ["ab".repeat(31), /this is 62 bytes/],
      ["", /this is 0 bytes/],
      ["canary".repeat(1000), /at most 1024 bytes/],
    ] as const) {
      const { exitCode, stderr } = await mvm("tenant key import acme --from-file -", content);
      assert.equal(exitCode, 2, stderr);
      assert.match(stderr, says);
      assert.ok(!stderr.includes("canary"));
    }
  });

  it("a key that was damaged is told, and never taken for one", async () => {
    await succeeds("tenant create damaged");
    const path = join(roots.stateDir, "keys", "damaged.key");
    await writeFile(path, "short");
    const { exitCode, stdout } = await mvm("tenant key status damaged");
    assert.equal(exitCode, 1);
    assert.match(stdout, /it has not 32 bytes/);
    await succeeds("tenant destroy damaged --yes");
    assert.ok(!(await readdir(join(roots.stateDir, "keys"))).includes("damaged.key"));
  });

  it("a pool's secret scopes are set, replaced and taken away", async () => {
    const scopesOf = async (): Promise<unknown> =>
      ((await json("pool info acme/scoped --json")) as { secret_scopes: unknown }).secret_scopes;
    const flags = "--secret-scope telegram=BOT_TOKEN,OTHER --secret-scope worker=API_KEY";
    await succeeds(`pool create acme/scoped --flake builtin:hello ${flags}`);
    assert.deepEqual(await scopesOf(), [
      { integration: "telegram", keys: ["BOT_TOKEN", "OTHER"] },
      { integration: "worker", keys: ["API_KEY"] },
    ]);
    await succeeds("pool update acme/scoped --secret-scope slack=TOKEN");
    assert.deepEqual(await scopesOf(), [{ integration: "slack", keys: ["TOKEN"] }]);
    for (const [flags, says] of [
      ["--secret-scope slack", /not a secret scope/],
      ["--secret-scope a=X --secret-scope a=Y", /two secret scopes/],
      ["--secret-scope a=X --all-secrets", /exclude each other/],
    ] as const) {
      const { exitCode, stderr } = await mvm(`pool update acme/scoped ${flags}`);
      assert.equal(exitCode, 2, stderr);
      assert.match(stderr, says);
    }
    await succeeds("pool update acme/scoped --all-secrets");
    assert.deepEqual(await scopesOf(), []);
    await succeeds("pool destroy acme/scoped --yes");
  });

  it("rotating where nothing was generated says what to do instead", async () => {
    const { exitCode, stderr } = await mvm("tenant secrets rotate acme");
    assert.equal(exitCode, 4);
    assert.match(stderr, /has no secrets that mvm generated[^]*tenant secrets set/);
  });

  it("eight tenants made at once get eight networks", async () => {
    const names = Array.from({ length: 8 }, (_, index) => `many-${index}`);
    const made = await Promise.all(
      names.map(
        async (name) =>
          JSON.parse(await succeeds(`tenant create ${name} --json`)) as { net_id: number },
      ),
    );
    assert.equal(new Set(made.map(({ net_id }) => net_id)).size, 8);
    assert.ok(made.every(({ net_id }) => net_id !== 1));
    for (const name of names) await succeeds(`tenant destroy ${name} --yes`);
  });

  it("one tenant made twice at once is made once", async () => {
    const results = await Promise.all([mvm("tenant create twin"), mvm("tenant create twin")]);
    assert.deepEqual(new Set(results.map(({ exitCode }) => exitCode)), new Set([0, 4]));
    await succeeds("tenant destroy twin --yes");
  });

  it("a destroyed tenant's net id goes to nobody else while others were never used", async () => {
    const first = JSON.parse(await succeeds("tenant create first --json")) as { net_id: number };
    await succeeds("tenant destroy first --yes");
    const second = JSON.parse(await succeeds("tenant create second --json")) as { net_id: number };
    assert.ok(second.net_id > first.net_id);
    await succeeds("tenant destroy second --yes");
  });

  it("a corrupt record is reported, the rest works, and nothing overwrites it", async () => {
    await succeeds("tenant create broken");
    const path = join(roots.stateDir, "tenants", "broken", "tenant.json");
    const whole = await readFile(path);
    await writeFile(path, whole.subarray(0, 30));
    const { exitCode, stdout, stderr } = await mvm("tenant list --json");
    assert.equal(exitCode, 0);
    assert.deepEqual(
      (JSON.parse(stdout) as { tenant_id: string }[]).map(({ tenant_id }) => tenant_id),
      ["acme"],
    );
    assert.match(stderr, /CORRUPT .*broken\/tenant\.json/);
    const again = await mvm("tenant create broken");
    const atItsNetwork = await mvm("tenant info broken");
    assert.equal(atItsNetwork.exitCode, 3, atItsNetwork.stderr);
    assert.notEqual(again.exitCode, 0, "a corrupt tenant was made anew over its record");
    assert.deepEqual(await readFile(path), whole.subarray(0, 30));
    await writeFile(path, whole);
    await succeeds("tenant destroy broken --yes");
  });

  it("a pool's record that is cut off is told wherever the pool is missed", async () => {
    const path = join(roots.stateDir, "tenants", "acme", "pools", "web", "pool.json");
    const whole = await readFile(path);
    await writeFile(path, whole.subarray(0, 30));
    try {
      for (const command of ["pool list", "instance list --tenant acme", "connect acme"]) {
        const { exitCode, stderr } = await mvm(command);
        assert.equal(exitCode, 0, stderr);
        assert.match(stderr, /^CORRUPT .*acme\/pools\/web\/pool\.json: /m, command);
      }
      const refused = await mvm("pool create acme/other --flake builtin:hello");
      assert.equal(refused.exitCode, 4, refused.stderr);
      assert.match(refused.stderr, /pool\.json cannot be used[^]*next: restore it from a backup/);
    } finally {
      await writeFile(path, whole);
    }
  });

  it("net verify names what differs and what mends it, ends with 1, and mends nothing itself", async () => {
    await succeeds("net repair");
    assert.deepEqual(await json("net verify --json"), { differences: [] });
    await namespace.run("nft", ["flush", "ruleset"]);
    for (const look of ["first", "second"]) {
      const { exitCode, stdout } = await mvm("net verify");
      assert.equal(exitCode, 1, look);
      assert.match(stdout, /filter +table inet mvm +is not there +mvm net repair/);
      assert.match(stdout, /\n2 differences\n$/);
    }
    assert.equal(await succeeds("net repair"), "the network is as it should be\n");
    assert.equal(await succeeds("net verify"), "0 differences\n");
  });

  it("net verify --deep sends probes and shows the rules", async () => {
    await succeeds("net repair");
    const text = await succeeds("net verify --deep");
    assert.match(text, /table inet mvm \{[^]*table bridge mvm \{/);
    assert.match(text, /ok +dropped +guest → another tenant's guest\n/);
    assert.match(text, /\n0 differences, 0 of \d\d probes wrong\n$/);
    const report = (await json("net verify --deep --json")) as { probes: object[]; rules: string };
    assert.deepEqual(report.probes[0], {
      what: "guest → guest of the same tenant",
      allowed: true,
      passed: true,
    });
    assert.match(report.rules, /chain from_port/);
  });

  it("a single rule that was taken out by hand is put back by the next scale, which says so", async () => {
    await succeeds("pool scale acme/web --running 0");
    await succeeds("net verify");
    await namespace.run("nft", ["flush", "chain", "bridge", "mvm", "from_port"]);
    assert.equal((await mvm("net verify")).exitCode, 1);
    const { exitCode, stderr } = await mvm("pool scale acme/web --running 0");
    assert.equal(exitCode, 0, stderr);
    assert.match(
      stderr,
      /chain from_port: the rule "no other frame enters" is not there .*; it is put right/,
    );
    await succeeds("net verify");
  });

  it("Ctrl-C at any time ends a command with 130 or lets it end, and the same command goes on", async () => {
    let interrupted = 0;
    for (let afterMs = 80; afterMs <= 800; afterMs += 120) {
      const commands = [
        ["tenant", "create", "hasty"],
        ["pool", "create", "hasty/web", "--flake", "builtin:hello"],
        ["pool", "scale", "hasty/web", "--running", "0"],
        ["tenant", "destroy", "hasty", "--force", "--yes"],
      ];
      for (const args of commands) {
        const { exitCode, stderr } = await roots.mvm(args, {
          namespace,
          interruptAfterMs: afterMs,
        });
        const what = `mvm ${args.join(" ")} after ${afterMs} ms: ${stderr}`;
        assert.ok(!stderr.includes("this is a defect"), what);
        // 128: it was ended before it had begun to listen.
        assert.ok([0, 128, 130].includes(exitCode), `${what} ended with ${exitCode}`);
        const again = await roots.mvm(args, { namespace });
        // It may have done all its work before: then there is one already, or none any more.
        assert.ok([0, 3, 4].includes(again.exitCode), `${what}\nthen: ${again.stderr}`);
        if (exitCode !== 0) interrupted += 1;
      }
      assert.equal((await mvm("doctor --leaks")).stdout, "0 leaks\n");
    }
    assert.ok(interrupted > 3, `${interrupted} were interrupted`);
  });

  it("a tenant that is destroyed leaves nothing but its audit log", async () => {
    await succeeds("tenant create brief");
    await succeeds("pool create brief/web --flake builtin:hello");
    await succeeds("tenant secrets set brief --from-file -", JSON.stringify({ KEY: canary }));
    await succeeds("tenant destroy brief --force --wipe-volumes --yes");
    assert.deepEqual(await readdir(join(roots.stateDir, "tenants/brief")), [
      "audit.head",
      "audit.log",
    ]);
    assert.match(await succeeds("events brief --last 1"), /TenantDestroyed/);
    assert.equal(((await json("doctor --leaks --json")) as unknown[]).length, 0);
  });
});
