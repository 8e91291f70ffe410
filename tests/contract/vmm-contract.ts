import assert from "node:assert/strict";
import { vmUids } from "../../src/host/vmm/uids.ts";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, readdir, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { OperationError } from "../../src/domain/errors.ts";
import { isAlive, processStartTicks } from "../../src/host/processes.ts";
import { writeInitramfs } from "../../src/image/initramfs.ts";
import type { Vmm, VmmProcess, VmmSpec } from "../../src/ports/vmm.ts";
import { type TestRoots, freshRoots } from "../test-host.ts";

const uid = vmUids.first + 300;
const bootTimeoutMs = 60_000;
/** A guest that shows its drives, tries to write to each, and then counts aloud for ever. */
const guestInit = `#!/bin/busybox sh
busybox mkdir -p /proc /sys
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
exec < /dev/console > /dev/console 2>&1
while read -r module; do busybox insmod /modules/$module; done < /modules/order 2> /dev/null
for block in /sys/block/vd*; do
  [ -e $block/serial ] || continue
  busybox dd if=/dev/\${block##*/} of=/first bs=64 count=1 2> /dev/null
  written=no
  echo mark | busybox dd of=/dev/\${block##*/} bs=512 seek=1 conv=notrunc,fsync 2> /dev/null && written=yes
  echo "drive $(busybox cat $block/serial) holds $(busybox head -n 1 /first) written=$written"
done
count=0
while :; do
  count=$((count + 1))
  echo count-$count
  busybox usleep 20000
done
`;

/** What a driver's suite gives to the contract. */
export interface VmmUnderTest {
  /** A driver of a new process: it knows nothing of what others started. */
  readonly make: (roots: TestRoots) => Vmm;
  /** Names of socket files in the run folder that a killed VMM leaves behind. */
  readonly sockets: readonly string[];
}

/** What every driver must do, with a real guest. */
export function vmmContract(name: string, driver: VmmUnderTest): void {
  const skip = process.getuid?.() === 0 ? false : "needs root";
  describe(`the VMM contract, ${name}`, { skip }, () => {
    let roots: TestRoots;
    let vmm: Vmm;
    let runRoot: string;
    let count = 0;
    const started: VmmProcess[] = [];

    before(async () => {
      roots = await freshRoots();
      vmm = driver.make(roots);
      runRoot = join(roots.runDir, "i");
      const payloads = join(roots.stateDir, "payloads");
      const init = join(roots.folder, "init");
      await writeFile(init, guestInit);
      await writeInitramfs(join(roots.folder, "initrd"), {
        busybox: join(payloads, "base", "tree", "bin", "busybox"),
        modulesFolder: join(payloads, "kernel", "modules"),
        programs: { init },
      });
    });
    afterEach(async () => {
      for (const process of started.splice(0)) await vmm.stop(process, 0);
      assert.deepEqual(await vmm.list(runRoot), [], "a VMM was left");
    });
    after(() => roots[Symbol.asyncDispose]());

    const specOf = (changes: Partial<VmmSpec> = {}): VmmSpec => {
      count += 1;
      const id = `i-${count.toString(16).padStart(8, "0")}`;
      return {
        id,
        runDir: join(runRoot, id),
        logDir: join(roots.folder, "logs", id),
        uid,
        vcpus: 1,
        memMib: 128,
        kernelPath: join(roots.stateDir, "payloads", "kernel", "vmlinuz"),
        initrdPath: join(roots.folder, "initrd"),
        kernelArgs: [],
        drives: [],
        nics: [],
        ...changes,
      };
    };
    const start = async (spec: VmmSpec): Promise<VmmProcess> => {
      const process = await vmm.start(spec);
      started.push(process);
      return process;
    };
    const consoleOf = (spec: VmmSpec): Promise<string> =>
      readFile(join(spec.logDir, "console.log"), "utf8");
    /** The highest number the guest has counted to. */
    const counted = async (spec: VmmSpec): Promise<number> =>
      Number([...(await consoleOf(spec)).matchAll(/count-(\d+)\r?\n/g)].at(-1)?.[1] ?? 0);
    const untilCountsBeyond = async (spec: VmmSpec, number: number): Promise<void> => {
      const deadlineMs = performance.now() + bootTimeoutMs;
      while ((await counted(spec)) <= number) {
        assert.ok(
          performance.now() < deadlineMs,
          `no progress: ${(await consoleOf(spec)).slice(-600)}`,
        );
        await delay(100);
      }
    };

    it("starts a guest that runs, and answers with the process that runs it", async () => {
      const spec = specOf();
      const process = await start(spec);
      assert.equal(process.id, spec.id);
      assert.equal(process.runDir, spec.runDir);
      assert.equal(await processStartTicks(process.pid), process.startTicks);
      await untilCountsBeyond(spec, 0);
    });

    it("runs as the unprivileged user, without capabilities and without a way to new ones", async () => {
      const { pid } = await start(specOf());
      const status = await readFile(`/proc/${pid}/status`, "utf8");
      const field = (key: string): string =>
        new RegExp(`^${key}:\\s*(.*)$`, "m").exec(status)?.[1]?.replaceAll(/\s+/g, " ").trim() ??
        "";
      assert.equal(field("Uid"), `${uid} ${uid} ${uid} ${uid}`);
      assert.equal(field("Gid"), `${uid} ${uid} ${uid} ${uid}`);
      for (const set of ["CapInh", "CapPrm", "CapEff", "CapAmb"]) {
        assert.equal(BigInt(`0x${field(set)}`), 0n, set);
      }
      assert.equal(field("NoNewPrivs"), "1");
      // 2: a filter of system calls is in force.
      assert.equal(field("Seccomp"), "2");
      assert.deepEqual(
        field("Groups")
          .split(" ")
          .filter((group) => group !== "" && group !== String(uid)),
        [],
      );
      for (const thread of await readdir(`/proc/${pid}/task`)) {
        const own = await readFile(`/proc/${pid}/task/${thread}/status`, "utf8");
        assert.match(own, new RegExp(`^Uid:\\s+${uid}\\s+${uid}\\s+${uid}\\s+${uid}$`, "m"));
      }
    });

    it("leaves no core, whose memory would hold the guest's secrets", async () => {
      const { pid } = await start(specOf());
      const limits = await readFile(`/proc/${pid}/limits`, "utf8");
      assert.match(limits, /^Max core file size\s+1\s+1\s+bytes/m);
    });

    it("finds a VMM again that another process started and forgot", async () => {
      const first = await start(specOf());
      const second = await start(specOf());
      const found = await driver.make(roots).list(runRoot);
      const byId = (a: VmmProcess, b: VmmProcess): number => (a.id < b.id ? -1 : 1);
      assert.deepEqual(found.toSorted(byId), [first, second].toSorted(byId));
    });

    it("lists nothing that lies under other roots, however alike their names are", async () => {
      await start(specOf());
      assert.deepEqual(await vmm.list(`${runRoot}x`), []);
      assert.deepEqual(await vmm.list(runRoot.slice(0, -1)), []);
    });

    it("pauses a guest and lets it go on where it was, and doing either twice is no error", async () => {
      const spec = specOf();
      const process = await start(spec);
      await untilCountsBeyond(spec, 0);
      await vmm.pause(process);
      await vmm.pause(process);
      await delay(300);
      const atPause = await counted(spec);
      await delay(1500);
      assert.equal(await counted(spec), atPause, "a paused guest counted on");
      await vmm.resume(process);
      await vmm.resume(process);
      await untilCountsBeyond(spec, atPause);
    });

    it("kills a guest that does not end by itself, after the time it was given", async () => {
      const spec = specOf();
      const process = await start(spec);
      await untilCountsBeyond(spec, 0);
      const beganMs = performance.now();
      await vmm.stop(process, 700);
      const tookMs = performance.now() - beganMs;
      assert.ok(tookMs >= 700, `it was given ${tookMs} ms`);
      assert.equal(await isAlive(process), false);
    });

    it("ends a paused guest too", async () => {
      const process = await start(specOf());
      await vmm.pause(process);
      await vmm.stop(process, 0);
      assert.equal(await isAlive(process), false);
    });

    it("waits for a guest that ends by itself, and stopping what is gone is no error", async () => {
      const kernelArgs = ["rdinit=/bin/busybox", "--", "true"];
      const process = await start(specOf({ kernelArgs }));
      const beganMs = performance.now();
      await vmm.stop(process, bootTimeoutMs);
      assert.ok(performance.now() - beganMs < bootTimeoutMs, "it was killed");
      await vmm.stop(process, 0);
      await assert.rejects(vmm.pause(process), OperationError);
      await assert.rejects(vmm.resume(process), OperationError);
    });

    for (const [what, change] of [
      ["a kernel", (folder: string) => ({ kernelPath: join(folder, "missing-kernel") })],
      ["an initrd", (folder: string) => ({ initrdPath: join(folder, "missing-initrd") })],
      [
        "a drive",
        (folder: string) => ({
          drives: [{ id: "data", path: join(folder, "missing-drive"), readOnly: false }],
        }),
      ],
    ] as const) {
      it(`fails with the VMM's own words when ${what} is missing, and leaves no process`, async () => {
        const spec = specOf(change(roots.folder));
        await assert.rejects(start(spec), (error) => {
          assert.ok(error instanceof OperationError);
          assert.ok(error.message.includes(spec.id), error.message);
          assert.match(error.message, /missing-(kernel|initrd|drive)/);
          return true;
        });
        assert.deepEqual(await vmm.list(runRoot), []);
      });
    }

    it("fails when a TAP that should be there is not, and leaves no process", async () => {
      const nics = [{ tap: "mvm-none-0", mac: "02:6d:76:00:01:02" }];
      await assert.rejects(start(specOf({ nics })), OperationError);
      assert.deepEqual(await vmm.list(runRoot), []);
    });

    it("starts no VMM when it is interrupted, and leaves no process", async () => {
      const abort = new AbortController();
      const starting = vmm.start(specOf(), abort.signal);
      setTimeout(() => abort.abort(new OperationError("interrupted")), 5);
      await assert.rejects(starting, OperationError);
      const deadlineMs = performance.now() + 5000;
      while ((await vmm.list(runRoot)).length > 0) {
        assert.ok(performance.now() < deadlineMs, "the interrupted VMM lives on");
        await delay(20);
      }
    });

    it("never ends a process that has the pid of a VMM that is gone", async () => {
      const innocent = spawn("sleep", ["60"], { stdio: "ignore" });
      const ended = once(innocent, "exit");
      try {
        const pid = innocent.pid ?? 0;
        const startTicks = (await processStartTicks(pid)) ?? 0;
        const stale = {
          id: "i-ffffffff",
          runDir: join(runRoot, "i-ffffffff"),
          pid,
          startTicks: startTicks - 1,
        };
        await vmm.stop(stale, 0);
        await assert.rejects(vmm.pause(stale), OperationError);
        assert.equal(await processStartTicks(pid), startTicks, "the innocent process was killed");
      } finally {
        innocent.kill("SIGKILL");
        await ended;
      }
    });

    it("starts where a VMM that was killed left its sockets", async () => {
      const spec = specOf();
      const killed = await start(spec);
      process.kill(killed.pid, "SIGKILL");
      await vmm.stop(killed, 5000);
      const left = await readdir(spec.runDir);
      for (const socket of driver.sockets)
        assert.ok(left.includes(socket), `no ${socket} was left`);
      const again = await start(spec);
      assert.notEqual(again.pid, killed.pid);
      await vmm.pause(again);
      await vmm.resume(again);
    });

    it("adds to a console log and begins a new log of its own at each start", async () => {
      const spec = specOf();
      const first = await start(spec);
      await untilCountsBeyond(spec, 0);
      await vmm.stop(first, 0);
      const { length } = await consoleOf(spec);
      await start(spec);
      assert.ok((await consoleOf(spec)).length >= length);
    });

    it("bounds what a guest prints, and keeps the last of it", async () => {
      const keptConsoleBytes = 8192;
      // It prints as fast as it can.
      const kernelArgs = ["rdinit=/bin/busybox", "--", "yes", "flood"];
      const spec = specOf({ kernelArgs, keptConsoleBytes });
      const process = await start(spec);
      const path = join(spec.logDir, "console.log");
      let shortened = 0;
      let size = 0;
      const deadlineMs = performance.now() + bootTimeoutMs;
      // The kernel's own lines are shortened away first; one of them quotes the command.
      while (shortened < 3 || !/(?:flood\r?\n){9}/.test(await consoleOf(spec))) {
        assert.ok(performance.now() < deadlineMs, "the log was not shortened");
        const { size: now } = await stat(path);
        // One read of what the guest printed may come on top.
        assert.ok(now <= 2 * keptConsoleBytes + 65_536, `${now} bytes`);
        if (now < size) shortened += 1;
        size = now;
        await delay(5);
      }
      await vmm.stop(process, 0);
      assert.match(await consoleOf(spec), /flood\r?\n[flod]*\r?$/);
      assert.deepEqual((await readdir(spec.logDir)).toSorted(), ["console.log", "vmm.log"]);
    });

    it("gives the guest its drives by their names, and keeps read-only ones unwritten", async () => {
      const drive = async (name: string): Promise<string> => {
        const path = join(roots.folder, name);
        await writeFile(path, `drive ${name}\n`);
        await truncate(path, 1024 * 1024);
        return path;
      };
      const drives = [
        { id: "first", path: await drive("first,with=comma"), readOnly: true },
        { id: "second", path: await drive("second"), readOnly: false },
      ];
      const [first, second] = drives;
      assert.ok(first && second);
      const before = await readFile(first.path);
      const spec = specOf({ drives });
      await start(spec);
      await untilCountsBeyond(spec, 0);
      const said = (await consoleOf(spec)).replaceAll("\r", "");
      assert.match(said, /^drive first holds drive first,with=comma written=no$/m);
      assert.match(said, /^drive second holds drive second written=yes$/m);
      assert.deepEqual(await readFile(first.path), before);
      assert.equal((await readFile(second.path)).toString("utf8", 512, 516), "mark");
    });

    it("opens a channel while it runs, and says so when nobody is there", async () => {
      const spec = specOf();
      const process = await start(spec);
      const channel = await vmm.openChannel(process);
      channel.destroy();
      await vmm.stop(process, 0);
      await assert.rejects(vmm.openChannel(process), OperationError);
    });
  });
}
