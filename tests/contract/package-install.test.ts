import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { HostExec } from "../../src/host/exec.ts";
import { FileStore } from "../../src/host/store/file-store.ts";
import { aTenant } from "../builders/records.ts";
import { projectDir } from "../test-host.ts";

const exec = new HostExec();
/** Some 60 MB from the registry where npm's cache does not have them. */
const installTimeoutMs = 300_000;

/** The package as somebody installs it who has no checkout: `npm install mvm-0.1.0.tgz` in an empty folder. */
describe(
  "the package, installed",
  { skip: process.getuid?.() === 0 ? false : "needs root" },
  () => {
    let folder = "";
    let home = "";

    before(async () => {
      folder = await mkdtemp(join(tmpdir(), "mvm-install-"));
      home = join(folder, "home");
      await mkdir(home);
      const pack = ["pack", "--offline", "--pack-destination", folder];
      await exec.run(process.execPath, ["scripts/bundle.ts"], {
        cwd: projectDir,
        timeoutMs: 60_000,
      });
      await exec.run("npm", pack, { cwd: projectDir, timeoutMs: 60_000 });
      const packed = (await readdir(folder)).find((name) => name.endsWith(".tgz")) ?? "";
      const install = [
        "install",
        "--prefer-offline",
        "--no-audit",
        "--no-fund",
        join(folder, packed),
      ];
      await exec.run("npm", install, { cwd: home, timeoutMs: installTimeoutMs });
    });
    after(() => rm(folder, { recursive: true }));

    const roots = () => ({
      stateDir: join(folder, "state"),
      configDir: join(folder, "etc"),
      runDir: join(folder, "run"),
    });

    /** Runs what npm put on the path of the folder, with no other Node than npm installed there. */
    async function mvm(...args: string[]): Promise<string> {
      const { stateDir, configDir, runDir } = roots();
      const { stdout } = await exec.run(join(home, "node_modules", ".bin", "mvm"), args, {
        cwd: home,
        timeoutMs: 60_000,
        env: {
          PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
          MVM_STATE_DIR: stateDir,
          MVM_CONFIG_DIR: configDir,
          MVM_RUN_DIR: runDir,
        },
      });
      return stdout;
    }

    it("shows its help", async () => {
      assert.match(await mvm("--help"), /^USAGE\n {2}mvm add host/);
    });

    it("makes and lists tenants", async () => {
      await new FileStore(roots()).saveTenant(aTenant());
      assert.match(await mvm("tenant", "list"), /^acme /m);
      await mvm("tenant", "create", "zenith");
      assert.match(await mvm("tenant", "list"), /^acme .*\nzenith /m);
    });

    it("runs by the bundle and not by sources, of which it has none", async () => {
      const parts = await readdir(join(home, "node_modules", "mvm"));
      assert.ok(
        parts.includes("dist") && !parts.includes("src") && !parts.includes("node_modules"),
      );
      assert.match(await mvm("node", "info"), /Version: +mvm /);
    });
  },
);
