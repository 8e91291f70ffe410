import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Revision } from "../../src/domain/revision.ts";
import { HostExec } from "../../src/host/exec.ts";
import { HttpsDownload } from "../../src/host/https-download.ts";
import { LinuxBuilderNetwork } from "../../src/host/net/builder-network.ts";
import { preparePayloads } from "../../src/host/payloads/prepare.ts";
import { QemuVmm } from "../../src/host/vmm/qemu/qemu-vmm.ts";
import type { Roots } from "../../src/host/roots.ts";
import { vmUids } from "../../src/host/vmm/uids.ts";
import { MicrovmImageBuilder } from "../../src/image/microvm-image-builder.ts";
import type { BuildRequest } from "../../src/ports/image-builder.ts";

export const projectDir: string = join(import.meta.dirname, "..", "..");
/** Downloaded once and kept beside the other downloads of a checkout; each test run has its own state. */
export const preparedDir: string = join(projectDir, "node_modules", ".cache", "mvm-test");
export const exec: HostExec = new HostExec();
// The machine type that boots without knowing anything of this host.
const platform = { accelerator: "tcg", machine: "q35", tscKhz: null, qemuVersion: "" } as const;
const buildTimeoutMs = 240_000;

export type BuildOptions = Partial<BuildRequest> & {
  readonly cache?: boolean;
  readonly stateDir?: string;
};

/** Makes what builds need, in `preparedDir`, unless it is there: this downloads, so it is no work for a namespace without a way out. */
export async function prepareForBuilds(): Promise<void> {
  await exec.run(process.execPath, [join(projectDir, "scripts", "bundle.ts")], {
    timeoutMs: 60_000,
  });
  await preparePayloads({
    stateDir: preparedDir,
    projectDir,
    exec,
    onProgress: () => undefined,
    names: ["kernel", "base", "builder"],
  });
}

/** A state folder of a test's own, prepared for builds. */
export class BuilderHost {
  readonly root: string;
  readonly vmm: QemuVmm;
  readonly progress: string[] = [];

  private constructor(root: string) {
    this.root = root;
    this.vmm = new QemuVmm(() => Promise.resolve(platform));
  }

  static async make(): Promise<BuilderHost> {
    await prepareForBuilds();
    const host = new BuilderHost(await mkdtemp(join(tmpdir(), "mvm-image-")));
    await host.addState(host.stateDir, preparedDir);
    return host;
  }

  get stateDir(): string {
    return this.roots.stateDir;
  }

  get roots(): Roots {
    return {
      stateDir: join(this.root, "state"),
      configDir: join(this.root, "etc"),
      runDir: join(this.root, "run"),
    };
  }

  /** Another state folder, with the payloads of `prepared`. */
  async addState(stateDir: string, prepared: string): Promise<void> {
    await mkdir(stateDir, { recursive: true });
    await symlink(join(prepared, "payloads"), join(stateDir, "payloads"));
  }

  async remove(): Promise<void> {
    await rm(this.root, { recursive: true });
  }

  builder(cache: boolean, stateDir: string = this.stateDir): MicrovmImageBuilder {
    return new MicrovmImageBuilder({
      stateDir,
      runDir: join(this.root, "run"),
      projectDir,
      exec,
      vmm: this.vmm,
      uid: vmUids.builder,
      builtBy: "test",
      download: new HttpsDownload(),
      network: new LinuxBuilderNetwork({
        exec,
        vmUid: vmUids.builder,
        stateDir,
        withNode: (_what, work) => work(),
        resolvConfs: [join(this.root, "resolv.conf")],
      }),
      now: () => new Date(),
      cache,
    });
  }

  build(flakeRef: string, options: BuildOptions = {}): Promise<Revision> {
    const { cache = false, stateDir, ...request } = options;
    return this.builder(cache, stateDir).build({ ...this.request(flakeRef), ...request });
  }

  key(flakeRef: string, stateDir: string = this.stateDir): Promise<string> {
    return this.builder(true, stateDir).key(this.request(flakeRef));
  }

  request(flakeRef: string): BuildRequest {
    return {
      flakeRef,
      profile: "minimal",
      role: "worker",
      timeoutMs: buildTimeoutMs,
      onProgress: (line) => this.progress.push(line),
    };
  }

  /** The text of a file in an image's root file system; empty when there is none. */
  async show(revision: Revision, path: string): Promise<string> {
    const image = this.imageFile(revision, "rootfs.ext4");
    return (await exec.run("debugfs", ["-R", `cat ${path}`, image], { timeoutMs: 30_000 })).stdout;
  }

  imageFile(revision: Revision, name: string): string {
    return join(this.stateDir, "images", revision.hash, name);
  }

  /** Writes a flake with these outputs. @returns its reference. */
  async flake(
    name: string,
    outputs: string,
    files: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    const folder = join(this.root, "flakes", name);
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    const text = `{
      inputs.tools = { url = "path:/mvm/tools"; flake = false; };
      inputs.guest = { url = "path:/mvm/guest"; flake = false; };
      inputs.openclaw = { url = "path:/mvm/openclaw"; flake = false; };
      outputs = { self, tools, guest, openclaw }: {
        ${outputs}
      };
    }`;
    await writeFile(join(folder, "flake.nix"), text);
    for (const [file, content] of Object.entries(files)) {
      await writeFile(join(folder, file), content);
    }
    return `path:${folder}`;
  }

  /** Writes a flake whose package is what a busybox script makes; `$b` is busybox, `$guest` and `$openclaw` are what the host prepared. */
  derivation(
    folder: string,
    script: string,
    options: {
      readonly name?: string;
      readonly attribute?: string;
      readonly files?: Readonly<Record<string, string>>;
    } = {},
  ): Promise<string> {
    const { name = folder, attribute = "default", files = {} } = options;
    return this.flake(
      folder,
      `packages.x86_64-linux.${attribute} = ${build(name, script)};`,
      files,
    );
  }

  /** Asserts that all of a build is gone but the logs of `kept` that failed. */
  async assertNothingLeft(kept: number, stateDir: string = this.stateDir): Promise<void> {
    const builds = await readdir(join(stateDir, "builds"));
    assert.equal(builds.length, kept, `left behind: ${builds.join(", ")}`);
    assert.deepEqual(await this.vmm.list(join(this.root, "run", "b")), []);
    assert.deepEqual(await readdir(join(this.root, "run", "b")), []);
    const images = await readdir(join(stateDir, "images"));
    assert.deepEqual(
      images.filter((name) => name.startsWith(".")),
      [],
    );
  }
}

/** A derivation as a Nix expression. */
export function build(name: string, script: string): string {
  return `derivation {
    name = "${name}";
    system = "x86_64-linux";
    builder = "\${tools}/busybox";
    guest = guest;
    openclaw = openclaw;
    args = [ "sh" "-euc" ''b=\${tools}/busybox; ${script}'' ];
  }`;
}
