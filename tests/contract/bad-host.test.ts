import assert from "node:assert/strict";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { HostExec } from "../../src/host/exec.ts";
import { FileStore } from "../../src/host/store/file-store.ts";
import { anInstance } from "../builders/records.ts";
import { NetNamespace } from "../hosts/net-namespace.ts";
import { type MvmResult, type TestRoots, emptyRoots, projectDir } from "../test-host.ts";

const exec = new HostExec();
const limits = { timeoutMs: 60_000 };

/** Commands on a host that lets them down: a full or read-only disk, programs that are not there. */
const skip = process.getuid?.() === 0 ? false : "needs root";
describe("a host that lets commands down", { skip }, () => {
  let roots: TestRoots;
  let namespace: NetNamespace;

  before(async () => {
    roots = await emptyRoots();
    namespace = await NetNamespace.make("bad-host");
    await mkdir(roots.stateDir);
  });
  after(async () => {
    await namespace[Symbol.asyncDispose]();
    await roots[Symbol.asyncDispose]();
  });

  const mvm = (line: string): Promise<MvmResult> => roots.mvm(line.split(" "), { namespace });
  const assertPlain = ({ stderr }: MvmResult): void => {
    assert.ok(!/this is a defect|\n\s+at /.test(stderr), stderr);
    assert.match(stderr, /\n {2}next: /);
  };

  describe("whose disk is full or read-only", () => {
    const mountState = async (options: string): Promise<void> => {
      await exec.run("mount", ["-t", "tmpfs", "-o", options, "mvm-test", roots.stateDir], limits);
    };
    afterEach(async () => {
      await exec.run("umount", [roots.stateDir], limits);
    });
    const fill = async (): Promise<void> => {
      await assert.rejects(writeFile(join(roots.stateDir, "filler"), Buffer.alloc(1 << 20)), {
        code: "ENOSPC",
      });
    };

    it("a full disk is said plainly, nothing is left, and the next command goes on", async () => {
      await mountState("size=64k");
      await fill();
      const refused = await mvm("tenant create acme");
      assert.equal(refused.exitCode, 1, refused.stderr);
      assert.match(refused.stderr, /no space left/);
      assertPlain(refused);
      await rm(join(roots.stateDir, "filler"));
      assert.deepEqual(JSON.parse((await mvm("tenant list --json")).stdout), []);
      const made = await mvm("tenant create acme");
      assert.equal(made.exitCode, 0, made.stderr);
      // Full again: what is there stays whole and can be read.
      await fill();
      const pool = await mvm("pool create acme/web --flake builtin:hello");
      assert.equal(pool.exitCode, 1, pool.stderr);
      assertPlain(pool);
      assert.equal((await mvm("tenant info acme")).exitCode, 0);
      await rm(join(roots.stateDir, "filler"));
      assert.deepEqual(JSON.parse((await mvm("pool list --json")).stdout), []);
      assert.equal((await mvm("pool create acme/web --flake builtin:hello")).exitCode, 0);
      assert.equal((await mvm("doctor --leaks")).stdout, "0 leaks\n");
      assert.equal((await mvm("tenant destroy acme --force --yes")).exitCode, 0);
      const left = await readdir(roots.stateDir, { recursive: true });
      assert.deepEqual(
        left.filter((name) => name.endsWith(".tmp")),
        [],
      );
    });

    it("what runs on a full disk can be stopped and destroyed all the same, and is written down", async () => {
      await mountState("size=4m");
      assert.equal((await mvm("tenant create acme")).exitCode, 0);
      assert.equal((await mvm("pool create acme/web --flake builtin:hello")).exitCode, 0);
      const store = new FileStore(roots);
      const [lost, kept] = [anInstance("web", 2, "running"), anInstance("web", 3, "stopped")];
      await store.saveInstance(lost);
      await store.saveInstance(kept);
      await assert.rejects(writeFile(join(roots.stateDir, "filler"), Buffer.alloc(8 << 20)), {
        code: "ENOSPC",
      });
      const refused = await mvm("tenant update acme --max-warm 7");
      assert.equal(refused.exitCode, 1, refused.stderr);
      assert.match(refused.stderr, /no space left/);
      assertPlain(refused);
      const stopped = await mvm(`instance stop ${lost.instance_id}`);
      assert.equal(stopped.exitCode, 0, stopped.stderr);
      assert.match(stopped.stderr, /the disk is full: going on with the space that is kept back/);
      assert.match((await mvm("instance list")).stdout, /i-00000002 +stopped/i);
      const destroyed = await mvm(`instance destroy ${kept.instance_id} --yes`);
      assert.equal(destroyed.exitCode, 0, destroyed.stderr);
      const told = JSON.parse((await mvm("events acme --json")).stdout) as {
        object: string;
        fields: { to?: string };
      }[];
      const ends = told.flatMap(({ object, fields: { to } }) =>
        to === undefined ? [] : [`${object} ${to}`],
      );
      assert.deepEqual(ends, [
        "acme/web/i-00000002 failed",
        "acme/web/i-00000002 stopped",
        "acme/web/i-00000003 destroyed",
      ]);
      const all = await mvm("tenant destroy acme --force --yes");
      assert.equal(all.exitCode, 0, all.stderr);
      assert.equal((await mvm("doctor --leaks")).stdout, "0 leaks\n");
      await rm(join(roots.stateDir, "filler"));
    });

    it("a disk that became read-only is said plainly, and what is on it can be read", async () => {
      await mountState("size=64k");
      assert.equal((await mvm("tenant create acme")).exitCode, 0);
      await exec.run("mount", ["-o", "remount,ro", roots.stateDir], limits);
      assert.equal((await mvm("tenant info acme")).exitCode, 0);
      const refused = await mvm("pool create acme/web --flake builtin:hello");
      assert.equal(refused.exitCode, 1, refused.stderr);
      assert.match(refused.stderr, /read-only file system/);
      assertPlain(refused);
    });
  });

  /** Runs a command in a mount namespace in which a program is not there. */
  const without = (program: string, line: string): Promise<MvmResult> =>
    runWithout(program, [join(projectDir, "bin", "mvm"), ...line.split(" ")]);
  const runWithout = async (program: string, command: readonly string[]): Promise<MvmResult> => {
    const script = `
      set -e
      for folder in /usr/sbin /usr/bin /sbin /bin; do
        [ -e "$folder/$1" ] || continue
        [ -L "$folder" ] && continue
        mkdir -p "$2/upper$folder" "$2/work$folder"
        mount -t overlay -o "lowerdir=$folder,upperdir=$2/upper$folder,workdir=$2/work$folder" overlay "$folder"
        rm "$folder/$1"
      done
      shift 2
      exec "$@"
    `;
    const scratch = join(roots.folder, "scratch");
    await mkdir(scratch, { recursive: true });
    const [enter, all] = namespace.command("unshare", [
      "--mount",
      "sh",
      "-c",
      // The scratch folder is a tmpfs: an overlay cannot lie on an overlay.
      `mount -t tmpfs tmpfs ${scratch}\n${script}`,
      "sh",
      program,
      scratch,
      ...command,
    ]);
    const { exitCode, stdout, stderr } = await exec.tryRun(enter, all, {
      ...limits,
      env: { PATH: process.env["PATH"] ?? "", HOME: "/root", ...roots.env },
    });
    return { exitCode, stdout, stderr };
  };

  it("a host without nft says so, with what installs it, and leaves nothing behind", async () => {
    assert.equal((await mvm("tenant create acme")).exitCode, 0);
    assert.equal((await mvm("pool create acme/web --flake builtin:hello")).exitCode, 0);
    const refused = await without("nft", "tenant destroy acme --force --yes");
    assert.equal(refused.exitCode, 7, refused.stderr);
    assert.match(refused.stderr, /nft is not installed/);
    assertPlain(refused);
    const again = await mvm("tenant destroy acme --force --yes");
    assert.equal(again.exitCode, 0, again.stderr);
    assert.equal((await mvm("doctor --leaks")).stdout, "0 leaks\n");
    const links = await namespace.run("ip", ["-brief", "link"]);
    assert.equal(links.trim().split("\n").length, 1, links);
  });

  it("a host without ip, dnsmasq or flock says so, with what installs it, and goes on once it is there", async () => {
    assert.equal((await mvm("tenant create acme")).exitCode, 0);
    assert.equal((await mvm("pool create acme/web --flake builtin:hello")).exitCode, 0);
    for (const program of ["ip", "dnsmasq", "flock"]) {
      const refused = await without(program, "pool scale acme/web --running 0");
      assert.equal(refused.exitCode, 7, `${program}: ${refused.stderr}`);
      assert.match(refused.stderr, new RegExp(`${program} is not installed`));
      assertPlain(refused);
    }
    const done = await mvm("pool scale acme/web --running 0");
    assert.equal(done.exitCode, 0, done.stderr);
    assert.equal((await mvm("doctor --leaks")).stdout, "0 leaks\n");
    assert.equal((await mvm("tenant destroy acme --force --yes")).exitCode, 0);
  });

  it("a host without QEMU says so when a VMM is started, with what installs it, and has none", async () => {
    const runDir = join(roots.folder, "i-00000001");
    const logDir = join(roots.folder, "logs");
    const small = { vcpus: 1, memMib: 64, kernelPath: "/none", initrdPath: "/none" };
    const spec = { id: "i-00000001", runDir, logDir, uid: 1_000_000, ...small };
    const program = `
      const { QemuVmm } = await import(process.argv[1]);
      const vmm = new QemuVmm(async () => ({ accelerator: "tcg", machine: "q35", tscKhz: null, qemuVersion: "" }));
      const spec = { ...JSON.parse(process.argv[2]), kernelArgs: [], drives: [], nics: [] };
      const { code, message, hint } = await vmm.start(spec).catch((error) => error);
      console.log(JSON.stringify({ code, message, hint, living: await vmm.list(process.argv[3]) }));
    `;
    const driver = join(projectDir, "src/host/vmm/qemu/qemu-vmm.ts");
    const args = [
      "--input-type=module",
      "--eval",
      program,
      driver,
      JSON.stringify(spec),
      roots.folder,
    ];
    const { stdout, stderr } = await runWithout("qemu-system-x86_64", [process.execPath, ...args]);
    assert.deepEqual(JSON.parse(stdout || stderr), {
      code: "host_lacks",
      message: "qemu-system-x86_64 is not installed",
      hint: "run `mvm add host`",
      living: [],
    });
  });

  it("without any of its programs, doctor still answers", async () => {
    for (const program of ["nft", "qemu-system-x86_64", "mkfs.ext4", "dnsmasq"]) {
      const { exitCode, stdout, stderr } = await without(program, "doctor --json");
      assert.equal(exitCode, 7, `${program}: ${stderr}`);
      assert.ok(Array.isArray(JSON.parse(stdout)), program);
    }
  });
});
