import assert from "node:assert/strict";
import { chmod, chown, mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it, test } from "node:test";
import {
  type PromiseName,
  judgePromises,
  promiseNames,
} from "../../../../src/domain/production.ts";
import { payloadNames } from "../../../../src/host/payloads/payload-record.ts";
import { issueNodeCertificate, makeDevelopmentCa } from "../../../../src/host/pki.ts";
import { identityPaths } from "../../../../src/host/setup/identity.ts";
import { LinuxProduction, waiversPath } from "../../../../src/host/setup/linux-production.ts";
import { productionFindings } from "../../../../src/host/setup/production-findings.ts";
import { trustKey } from "../../../../src/host/setup/trusted-keys.ts";
import { TemporaryRoots } from "../../../builders/temporary-roots.ts";

const nowMs = Date.now();
const heading = "Filename\tType\tSize\tUsed\tPriority\n";
/** What a kernel tells on which every promise can be kept. */
const goodKernel: Readonly<Record<string, string>> = {
  "proc/swaps": heading,
  "proc/self/limits": "Max core file size        0                    unlimited            bytes\n",
  "proc/self/status": "Uid:\t990\t990\t990\t990\nCapEff:\t0000000000000000\n",
  "proc/sys/kernel/core_pattern": "core\n",
  "proc/sys/kernel/seccomp/actions_avail": "kill_process kill_thread errno allow\n",
  "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
};

const asRoot = "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n";

/** A host that keeps all that this version can; `jail` is what a driver can do that is to come. */
class Host implements AsyncDisposable {
  readonly roots: TemporaryRoots;
  jail = true;
  servesNetwork = false;

  private constructor(roots: TemporaryRoots) {
    this.roots = roots;
  }

  static async make(): Promise<Host> {
    const host = new Host(await TemporaryRoots.make());
    const { stateDir, configDir } = host.roots;
    for (const [path, text] of Object.entries(goodKernel)) await host.kernel(path, text);
    const files = identityPaths(stateDir);
    await mkdir(files.folder, { recursive: true });
    const ca = await makeDevelopmentCa("fleet", nowMs);
    const node = await issueNodeCertificate("node-a", ca, nowMs);
    await writeFile(files.caCertificate, ca.certificatePem);
    await writeFile(files.certificate, node.certificatePem);
    await writeFile(files.key, node.keyPem, { mode: 0o600 });
    await mkdir(configDir, { mode: 0o755 });
    await trustKey(configDir, Buffer.alloc(32, 7));
    for (const name of payloadNames) {
      const record = {
        schema_version: 1,
        name,
        version: "1",
        recipe: "r",
        files: {},
        packages: [],
      };
      const folder = join(stateDir, "payloads", name);
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, "payload.json"), JSON.stringify(record));
    }
    return host;
  }

  get kernelRoot(): string {
    return join(this.roots.folder, "kernel");
  }

  /** What the kernel tells in one of its files. */
  async kernel(path: string, text: string): Promise<void> {
    await mkdir(dirname(join(this.kernelRoot, path)), { recursive: true });
    await writeFile(join(this.kernelRoot, path), text);
  }

  production(): LinuxProduction {
    const none = { memorySnapshot: false, lazyRestore: false, vsock: false, driveHotSwap: false };
    return new LinuxProduction({
      roots: this.roots,
      capabilities: { ...none, jail: this.jail },
      servesNetwork: this.servesNetwork,
      kernelRoot: this.kernelRoot,
      trustedUid: process.getuid?.() ?? 0,
    });
  }

  /** What it lacks, with what was found. */
  async lacks(): Promise<Partial<Record<PromiseName, string>>> {
    const standings = judgePromises(await this.production().look(), nowMs);
    const lacking = standings.filter(({ state }) => state === "lacking");
    return Object.fromEntries(lacking.map(({ promise, detail }) => [promise, detail]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.roots[Symbol.asyncDispose]();
  }
}

/** Nothing encrypts yet, whatever a host has: it is lacking everywhere. */
const alwaysLacking = ["encryption"];

test("a host that has everything lacks only what is not built", async () => {
  await using host = await Host.make();
  assert.deepEqual(Object.keys(await host.lacks()), alwaysLacking);
});

interface Spoiled {
  readonly what: string;
  readonly promise: PromiseName;
  readonly detail: RegExp;
  readonly spoil: (host: Host) => Promise<unknown>;
}

const keys = (host: Host): string => join(host.roots.configDir, "trusted_keys");
const certs = (host: Host) => identityPaths(host.roots.stateDir);

const spoiled: readonly Spoiled[] = [
  {
    what: "without a signing key",
    promise: "signature",
    detail: /no coordinator's signing key/,
    spoil: (host) => rm(keys(host), { recursive: true }),
  },
  {
    what: "whose signing keys others can write",
    promise: "signature",
    detail: /others than root can write .*trusted_keys/,
    spoil: (host) => chmod(keys(host), 0o777),
  },
  {
    what: "of a development CA",
    promise: "mtls",
    detail: /this node's own/,
    spoil: (host) => writeFile(certs(host).caKey, "key"),
  },
  {
    what: "without certificates",
    promise: "mtls",
    detail: /no CA/,
    spoil: (host) => rm(certs(host).caCertificate),
  },
  {
    what: "with a payload that nobody checked",
    promise: "pinned-downloads",
    detail: /kernel/,
    spoil: (host) => rm(join(host.roots.stateDir, "payloads", "kernel"), { recursive: true }),
  },
  {
    what: "whose kernel has no seccomp",
    promise: "vmm-sandbox",
    detail: /no seccomp/,
    spoil: (host) => rm(join(host.kernelRoot, "proc/sys/kernel/seccomp"), { recursive: true }),
  },
  {
    what: "without cgroup v2",
    promise: "cgroup-v2",
    detail: /no cgroup v2/,
    spoil: (host) => rm(join(host.kernelRoot, "sys"), { recursive: true }),
  },
  {
    what: "whose cgroup v2 lacks a controller",
    promise: "cgroup-v2",
    detail: /no cgroup v2 with/,
    spoil: (host) => host.kernel("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n"),
  },
  {
    what: "with plain swap",
    promise: "no-plain-swap",
    detail: /\/swapfile/,
    spoil: (host) => host.kernel("proc/swaps", `${heading}/swapfile file 1 0 -2\n`),
  },
  {
    what: "that writes cores",
    promise: "no-core-dumps",
    detail: /core/,
    spoil: (host) =>
      host.kernel("proc/self/limits", "Max core file size  unlimited unlimited bytes\n"),
  },
  {
    what: "that hands cores to a program, which a limit of 0 does not keep it from",
    promise: "no-core-dumps",
    detail: /handed to a program/,
    spoil: (host) =>
      host.kernel("proc/sys/kernel/core_pattern", "|/lib/systemd/systemd-coredump\n"),
  },
  {
    what: "where root does everything",
    promise: "privilege-separation",
    detail: /the records are root's/,
    spoil: (host) => host.kernel("proc/self/status", asRoot),
  },
  {
    what: "whose daemon is root",
    promise: "privilege-separation",
    detail: /the daemon has privileges/,
    spoil: async (host) => {
      host.servesNetwork = true;
      await host.kernel("proc/self/status", asRoot);
    },
  },
  {
    what: "whose daemon kept a capability",
    promise: "privilege-separation",
    detail: /the daemon has privileges/,
    spoil: async (host) => {
      host.servesNetwork = true;
      await host.kernel(
        "proc/self/status",
        "Uid:\t990\t990\t990\t990\nCapEff:\t0000000000001000\n",
      );
    },
  },
  {
    what: "whose node has no key to sign logs with",
    promise: "audit",
    detail: /no head of a log can be signed/,
    spoil: (host) => rm(certs(host).key),
  },
];

describe("a host is found out", () => {
  for (const { what, promise, detail, spoil } of spoiled) {
    it(what, async () => {
      await using host = await Host.make();
      await spoil(host);
      const found = await host.lacks();
      assert.match(found[promise] ?? "", detail);
      assert.ok(Object.keys(found).every((name) => [...alwaysLacking, promise].includes(name)));
    });
  }

  it("whose driver has no jail", async () => {
    await using host = await Host.make();
    host.jail = false;
    const found = await host.lacks();
    assert.match(found["runtime-isolation"] ?? "", /without a jail/);
    assert.match(found["cgroup-v2"] ?? "", /no VMM into a cgroup/);
  });

  it("without device-mapper", async () => {
    await using host = await Host.make();
    assert.match((await host.lacks()).encryption ?? "", /no device-mapper/);
    await host.kernel("dev/mapper/control", "");
    assert.doesNotMatch((await host.lacks()).encryption ?? "", /no device-mapper/);
  });
});

test("a node whose records were given to its daemon's user keeps its privileges apart, whatever root does by hand", async (test) => {
  if (process.getuid?.() !== 0) {
    test.skip("only root can give folders away");
    return;
  }
  await using host = await Host.make();
  for (const folder of ["locks", "tenants"]) {
    await mkdir(join(host.roots.stateDir, folder), { recursive: true });
    await chown(join(host.roots.stateDir, folder), 990, 990);
  }
  await host.kernel("proc/self/status", asRoot);
  assert.equal((await host.lacks())["privilege-separation"], undefined);
  host.servesNetwork = true;
  assert.match((await host.lacks())["privilege-separation"] ?? "", /the daemon has privileges/);
});

test("what cannot be looked at is not kept", async () => {
  await using host = await Host.make();
  await rm(join(host.kernelRoot, "proc/swaps"));
  await mkdir(join(host.kernelRoot, "proc/swaps"));
  assert.match((await host.lacks())["no-plain-swap"] ?? "", /cannot be looked at: EISDIR/);
});

test("a limit of one byte keeps a core from a program too", async () => {
  await using host = await Host.make();
  await host.kernel("proc/sys/kernel/core_pattern", "|/lib/systemd/systemd-coredump\n");
  await host.kernel("proc/self/limits", "Max core file size        1        1        bytes\n");
  assert.equal((await host.lacks())["no-core-dumps"], undefined);
});

test("this host itself can be looked at", async () => {
  await using made = await TemporaryRoots.make();
  const capabilities = {
    memorySnapshot: false,
    lazyRestore: false,
    vsock: false,
    jail: false,
    driveHotSwap: false,
  };
  const { facts, waivers } = await new LinuxProduction({ roots: made, capabilities }).look();
  assert.deepEqual(Object.keys(facts).toSorted(), promiseNames.toSorted());
  assert.equal(facts["runtime-isolation"].kept, false);
  assert.equal(facts.signature.kept, false);
  assert.deepEqual(waivers, []);
});

const waiver = `[[waive]]
promise = "encryption"
reason = "test fleet"
until = 2999-01-01T00:00:00Z
`;

test("doctor tells each promise, waivers with their end, and that microVMs may start", async () => {
  await using host = await Host.make();
  await writeFile(waiversPath(host.roots), waiver, { mode: 0o644 });
  const found = productionFindings(await host.production().look(), nowMs);
  const of = new Map(found.map((finding) => [finding.feature, finding]));
  assert.equal(of.get("production")?.status, "ok");
  assert.equal(of.get("promise signature")?.status, "ok");
  assert.equal(of.get("promise encryption")?.status, "warning");
  assert.match(of.get("promise encryption")?.detail ?? "", /WAIVED.*2999.*test fleet/);
  assert.equal(found.length, promiseNames.length + 1);
  assert.ok(found.every(({ status, fix }) => (status === "ok") === (fix === "")));
});

test("doctor tells what is in the way of every start, and a waivers file that cannot be used", async () => {
  await using host = await Host.make();
  await writeFile(waiversPath(host.roots), waiver.replace("encryption", "mtls"), { mode: 0o644 });
  const found = productionFindings(await host.production().look(), nowMs);
  const of = new Map(found.map((finding) => [finding.feature, finding]));
  assert.equal(of.get("production")?.status, "missing");
  assert.match(of.get("production")?.detail ?? "", /no microVM starts: this node lacks encryption/);
  assert.match(of.get("waivers")?.detail ?? "", /mtls cannot be waived/);
  assert.equal(of.get("promise encryption")?.status, "missing");
});
