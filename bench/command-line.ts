import { spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileStore } from "../src/host/store/file-store.ts";
import { parseTenantId } from "../src/domain/ids.ts";
import { aTenant } from "../tests/builders/records.ts";
import { type Benchmark, interleaved, median, result } from "./samples.ts";

const tenants = 100;
const rounds = 21;
const bar = 2;
const timeoutMs = 30_000;
const mvm = join(import.meta.dirname, "..", "bin", "mvm");

/** How long commands take, over `node -e 0` of the same Node. */
export const commandLine: Benchmark = {
  measures: {
    "cli-help": "`mvm --help` over `node -e 0`",
    "cli-tenant-list": `\`mvm tenant list\` with ${tenants} tenants over \`node -e 0\``,
  },
  async measure() {
    const folder = await mkdtemp(join(tmpdir(), "mvm-bench-"));
    try {
      const roots = {
        stateDir: join(folder, "state"),
        configDir: join(folder, "etc"),
        runDir: join(folder, "run"),
      };
      const store = new FileStore(roots);
      for (let n = 0; n < tenants; n += 1) {
        await store.saveTenant(aTenant({ tenant_id: parseTenantId(`t${n}`), net_id: n + 1 }));
      }
      const env = {
        ...process.env,
        MVM_NODE: process.execPath,
        MVM_STATE_DIR: roots.stateDir,
        MVM_CONFIG_DIR: roots.configDir,
        MVM_RUN_DIR: roots.runDir,
      };
      const time = (program: string, args: readonly string[], lines: number) => (): number => {
        const startMs = performance.now();
        const ended = spawnSync(program, args, { env, encoding: "utf8", timeout: timeoutMs });
        const tookMs = performance.now() - startMs;
        // A command that fails early must not count as a quick one.
        if (ended.status !== 0 || ended.stdout.split("\n").length <= lines) {
          throw new Error(`${program} ${args.join(" ")}: ${ended.stderr}${ended.stdout}`);
        }
        return tookMs;
      };
      const samples = await interleaved(rounds, {
        "node -e 0": time(process.execPath, ["-e", "0"], 0),
        "mvm --help": time(mvm, ["--help"], 10),
        "mvm tenant list": time(mvm, ["tenant", "list"], tenants),
      });
      const node = median(samples["node -e 0"]);
      return {
        samples: Object.fromEntries(
          Object.entries(samples).map(([name, values]) => [`${name} (ms)`, values]),
        ),
        results: [
          result("cli-help", median(samples["mvm --help"]) / node, "x", bar),
          result("cli-tenant-list", median(samples["mvm tenant list"]) / node, "x", bar),
        ],
      };
    } finally {
      await rm(folder, { recursive: true });
    }
  },
};
