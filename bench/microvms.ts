import { stat } from "node:fs/promises";
import { join } from "node:path";
import { NodeUnderTest } from "../tests/vm/node-under-test.ts";
import { BareVmm } from "./bare-vmm.ts";
import {
  type Benchmark,
  type Measurement,
  type Samples,
  interleaved,
  median,
  result,
} from "./samples.ts";

const rounds = 5;
const scaleTo = 8;
const mib = 1024 * 1024;
const ofHello = ["--flake", "builtin:hello", "--mem", "256"];

/** How much mvm adds to the start of a microVM, and how large its guests are. Root, on a machine that can be a node. */
export const oneMicrovm: Benchmark = {
  measures: {
    start: "`mvm instance start` of hello over the same VMM started bare, until the agent answers",
    "guest-memory": "what base and agent use of a guest's memory, without its workload",
    "hello-rootfs": "size of hello's root file system",
  },
  measure: (say, signal) =>
    withHello(say, async ({ node, address, bareVmm }) => {
      const memoryMib = await usedMib(node, address);
      const rootfsMib = await rootfsSizeMib(node);
      const bare = await bareVmm();
      await node.mvm("instance", "stop", address);
      const samples = await interleaved(
        rounds,
        {
          "mvm instance start (ms)": async () => {
            const tookMs = await timed(() => node.mvm("instance", "start", address));
            // It would run beside the next.
            await node.mvm("instance", "stop", address);
            return tookMs;
          },
          "bare VMM (ms)": async () => {
            const tookMs = await timed(() => bare.start());
            await bare.stop();
            return tookMs;
          },
        },
        signal,
      );
      const ratio = over(samples, "mvm instance start (ms)", "bare VMM (ms)");
      return {
        samples,
        results: [
          result("start", ratio, "x", 1.15),
          result("guest-memory", memoryMib, "MiB", 90),
          result("hello-rootfs", rootfsMib, "MiB", 160),
        ],
      };
    }),
};

/** How much mvm adds to the start of several microVMs. Root, on a machine that can be a node. */
export const manyMicrovms: Benchmark = {
  measures: {
    scale: `\`mvm pool scale\` of hello from 0 to ${scaleTo} over ${scaleTo} bare VMMs side by side`,
  },
  measure: (say, signal) =>
    withHello(say, async ({ node, address, bareVmm }) => {
      const bare: BareVmm[] = [];
      while (bare.length < scaleTo) bare.push(await bareVmm());
      await node.mvm("instance", "stop", address);
      const samples = await interleaved(
        rounds,
        {
          "mvm pool scale (ms)": async () => {
            await node.mvm("pool", "create", "bench/many", ...ofHello);
            await node.mvm("pool", "build", "bench/many");
            const tookMs = await timed(() =>
              node.mvm("pool", "scale", "bench/many", "--running", String(scaleTo)),
            );
            await node.mvm("pool", "destroy", "bench/many", "--force", "--wipe-volumes", "--yes");
            return tookMs;
          },
          "bare VMMs (ms)": async () => {
            const tookMs = await timed(() => Promise.all(bare.map((vmm) => vmm.start())));
            await Promise.all(bare.map((vmm) => vmm.stop()));
            return tookMs;
          },
        },
        signal,
      );
      const ratio = over(samples, "mvm pool scale (ms)", "bare VMMs (ms)");
      return { samples, results: [result("scale", ratio, "x", 1.3)] };
    }),
};

interface Hello {
  readonly node: NodeUnderTest;
  /** Of the instance that runs. */
  readonly address: string;
  /** Another VMM of the same command line; it ends with the measurement. */
  readonly bareVmm: () => Promise<BareVmm>;
}

/** Measures on a node with one instance of hello, and removes all of it. */
async function withHello(
  say: (line: string) => void,
  measure: (hello: Hello) => Promise<Measurement>,
): Promise<Measurement> {
  await using node = await NodeUnderTest.make("bench");
  await using cleanup = new AsyncDisposableStack();
  await node.mvm("tenant", "create", "bench", "--max-running", "32");
  cleanup.defer(async () => {
    await node.mvm("tenant", "destroy", "bench", "--force", "--wipe-volumes", "--yes");
  });
  await node.mvm("pool", "create", "bench/one", ...ofHello);
  say("building hello");
  await node.mvm("pool", "scale", "bench/one", "--running", "1");
  const [instance] = await node.instances("bench");
  if (instance?.pid === null || instance === undefined) throw new Error("hello does not run");
  const { pid, address } = instance;
  let copies = 0;
  const bareVmm = async (): Promise<BareVmm> => {
    copies += 1;
    const vmm = await BareVmm.copyOf(pid, node.namespace, node.roots.folder, copies);
    cleanup.defer(() => vmm.stop());
    return vmm;
  };
  return await measure({ node, address, bareVmm });
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

function over(samples: Samples, ours: string, theirs: string): number {
  return median(samples[ours] ?? []) / median(samples[theirs] ?? []);
}

async function rootfsSizeMib(node: NodeUnderTest): Promise<number> {
  const { revisions } = (await node.json("pool", "info", "bench/one")) as { revisions: string[] };
  const rootfs = join(node.roots.stateDir, "images", revisions[0] ?? "", "rootfs.ext4");
  return (await stat(rootfs)).size / mib;
}

/** What is used of a guest's memory, less the share of its services. */
async function usedMib(node: NodeUnderTest, address: string): Promise<number> {
  const script =
    'awk "/^MemTotal/ { total = \\$2 } /^MemAvailable/ { print total - \\$2 }" /proc/meminfo; ' +
    "for pid in $(cat /run/mvm-agent/service-*.pid 2>/dev/null | cut -d' ' -f1); do " +
    'awk "/^Pss:/ { print \\$2 }" /proc/$pid/smaps_rollup; done';
  const { stdout, stderr } = await node.exec(address, "sh", "-c", script);
  const [usedKib, ...servicesKib] = stdout.trim().split("\n").map(Number);
  if (usedKib === undefined || servicesKib.length === 0) throw new Error(`no figures: ${stderr}`);
  return (usedKib - servicesKib.reduce((sum, kib) => sum + kib, 0)) / 1024;
}
