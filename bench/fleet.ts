import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Fleet } from "../src/coordinator/fleet.ts";
import { NodeClient } from "../src/coordinator/node-client.ts";
import { parseEndpoint } from "../src/domain/endpoint.ts";
import { FileAuthority } from "../src/host/fleet/file-authority.ts";
import { issueWithNewKey, makeCa } from "../src/host/pki.ts";
import { QuicTransport } from "../src/host/quic/quic-transport.ts";
import type { TransportIdentity } from "../src/ports/transport.ts";
import { rawPublicKey } from "../src/protocol/signed-desired.ts";
import { type Benchmark, median, result } from "./samples.ts";

const mvm = join(import.meta.dirname, "..", "bin", "mvm");
const dayMs = 86_400_000;
const askedPerSecond = 100;
const askedSeconds = 20;
const pushes = 7;
const few = 50;
const many = 200;
const mib = 1024 * 1024;
const timeoutMs = 600_000;
/** A document that asks for nothing; blanks make it as long as it has to be. */
const document = '{"schema_version":1,"node_id":"local","tenants":[]}';

/** How long a fleet is spoken with. Needs root, as the node's daemon does. */
export const fleet: Benchmark = {
  measures: {
    "node-info-p99": `an answer to NodeInfo of a real daemon, 99th percentile at ${askedPerSecond} a second`,
    "push-1mib": "a push of a document of 1 MiB until a real daemon has taken it",
    "push-200-nodes": `a push to ${many} simulated nodes`,
    "push-growth": `a push to ${many} nodes over one to ${few}, over ${many / few}`,
  },
  async measure(say, interrupted) {
    const signal = AbortSignal.any([interrupted, AbortSignal.timeout(timeoutMs)]);
    const folder = await mkdtemp(join(tmpdir(), "mvm-bench-fleet-"));
    try {
      const daemon = await measureDaemon(folder, signal);
      say(`asked a daemon ${daemon.info.length} times`);
      const toFew = await measurePush(folder, few, signal);
      const toMany = await measurePush(folder, many, signal);
      const sorted = daemon.info.toSorted((a, b) => a - b);
      const p99 = sorted[Math.floor(sorted.length * 0.99)] ?? 0;
      return {
        results: [
          result("node-info-p99", p99, "ms", 10),
          result("push-1mib", median(daemon.push), "ms", 500),
          result("push-200-nodes", median(toMany) / 1000, "s", 20),
          result("push-growth", median(toMany) / median(toFew) / (many / few), "times", 1.25),
        ],
        samples: {
          node_info_ms: daemon.info,
          push_1mib_ms: daemon.push,
          push_few_ms: toFew,
          push_many_ms: toMany,
        },
      };
    } finally {
      await rm(folder, { recursive: true });
    }
  },
};

async function measureDaemon(
  folder: string,
  signal: AbortSignal,
): Promise<{ info: number[]; push: number[] }> {
  const env = {
    PATH: process.env["PATH"] ?? "",
    MVM_NODE: process.execPath,
    MVM_STATE_DIR: join(folder, "state"),
    MVM_CONFIG_DIR: join(folder, "etc"),
    MVM_RUN_DIR: join(folder, "run"),
    MVM_COORDINATOR_DIR: join(folder, "coordinator"),
  };
  const run = (...args: string[]): string => {
    const ended = spawnSync(mvm, args, { env, encoding: "utf8", timeout: 60_000 });
    if (ended.status !== 0) throw new Error(`mvm ${args.join(" ")}: ${ended.stderr}`);
    return ended.stdout;
  };
  const at = (name: string): string => join(folder, name);
  const { privateKey } = generateKeyPairSync("ed25519");
  await mkdir(join(folder, "etc", "trusted_keys"), { recursive: true });
  const publicKey = rawPublicKey(privateKey).toString("base64");
  await writeFile(join(folder, "etc", "trusted_keys", "bench.pub"), `${publicKey}\n`);
  await writeFile(at("ca.crt"), run("coordinator", "ca", "init"));
  run("agent", "certs", "init", "--ca", at("ca.crt"));
  await writeFile(at("node.csr"), run("agent", "certs", "request"));
  await writeFile(at("node.crt"), run("coordinator", "ca", "issue", "--request", at("node.csr")));
  run("agent", "certs", "install", "--certificate", at("node.crt"));
  const port = 20_000 + (process.pid % 20_000);
  const rates = ["--rate-per-second", "100000", "--rate-burst", "100000"];
  const agent = spawn(
    mvm,
    ["agent", "serve", "--listen", `127.0.0.1:${port}`, "--metrics-port", "0", ...rates],
    { env, stdio: ["ignore", "ignore", "pipe"] },
  );
  try {
    await said(agent, " serves on ");
    const authority = new FileAuthority(at("coordinator"));
    const transport = quic(await authority.identity(Date.now()));
    const target = { host: "127.0.0.1", port };
    const client = new NodeClient(await transport.dial(target, signal), "coordinator");
    const info = await askEvenly(client, signal);
    const asFleet = new Fleet({ transport, role: "coordinator", nowMs: Date.now, signal });
    const push: number[] = [];
    for (let generation = 1; generation <= pushes; generation += 1) {
      const bytes = Buffer.from(document.padEnd(mib + generation));
      const what = { document: bytes, key: privateKey, generation, lifeMs: dayMs, wait: false };
      const startMs = performance.now();
      await asFleet.push(client, what, () => undefined);
      push.push(performance.now() - startMs);
    }
    await client.close();
    return { info, push };
  } finally {
    const ended = once(agent, "exit");
    agent.kill("SIGTERM");
    await ended;
  }
}

/** Asks at a steady rate, whether or not the answer before is there. @returns how long each took, in ms. */
async function askEvenly(client: NodeClient, signal: AbortSignal): Promise<number[]> {
  const took: number[] = [];
  const asked: Promise<void>[] = [];
  const startMs = performance.now();
  for (let index = 0; index < askedPerSecond * askedSeconds; index += 1) {
    const dueMs = startMs + (index * 1000) / askedPerSecond;
    const waitMs = dueMs - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    const askedMs = performance.now();
    const answer = client.call("NodeInfo", {}, { signal });
    asked.push(answer.then(() => void took.push(performance.now() - askedMs)));
  }
  await Promise.all(asked);
  return took;
}

/** Pushes to so many simulated nodes, several times. @returns how long each took, in ms. */
async function measurePush(folder: string, count: number, signal: AbortSignal): Promise<number[]> {
  const ca = await makeCa("bench", Date.now());
  const issue = async (role: "node" | "coordinator", id: string): Promise<object> => ({
    id,
    ...(await issueWithNewKey({ role, id }, ca, Date.now(), dayMs)),
    caPem: ca.certificatePem,
  });
  const names = Array.from({ length: count }, (_, index) => `node-${index}`);
  const identities = await Promise.all(names.map((id) => issue("node", id)));
  const file = join(folder, "identities.json");
  await writeFile(file, JSON.stringify(identities));
  const script = join(import.meta.dirname, "simulated-nodes.ts");
  const nodes = spawn(process.execPath, [script, file, String(count)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const [line] = (await once(nodes.stdout, "data")) as [Buffer];
    const targets = (JSON.parse(line.toString()) as string[]).map((text) => parseEndpoint(text));
    const { privateKey } = generateKeyPairSync("ed25519");
    const identity = (await issue("coordinator", "bench")) as TransportIdentity;
    const transport = quic({ ...identity, revoked: new Set() });
    const asFleet = new Fleet({ transport, role: "coordinator", nowMs: Date.now, signal });
    const took: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      const push = { document: Buffer.from(document), key: privateKey, lifeMs: dayMs, wait: false };
      const startMs = performance.now();
      const results = await asFleet.each(targets, (client) =>
        asFleet.push(client, push, () => undefined),
      );
      took.push(performance.now() - startMs);
      const failed = results.find(({ ok }) => !ok);
      if (failed !== undefined && !failed.ok) throw failed.error;
    }
    return took;
  } finally {
    nodes.kill("SIGKILL");
  }
}

function quic(identity: TransportIdentity): QuicTransport {
  return new QuicTransport({
    identity: async () => identity,
    nowMs: Date.now,
    onFault: () => undefined,
  });
}

async function said(program: ChildProcess, text: string): Promise<void> {
  let heard = "";
  for await (const chunk of program.stderr ?? []) {
    heard += String(chunk);
    if (heard.includes(text)) break;
  }
  if (!heard.includes(text)) throw new Error(`the daemon ended: ${heard}`);
  program.stderr?.resume();
}
