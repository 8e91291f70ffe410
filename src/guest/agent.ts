import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { hostname, uptime } from "node:os";
import { join } from "node:path";
import { describeError } from "../domain/errors.ts";
import { type GuestConfig, guestConfigSchema } from "../protocol/guest-config.ts";
import { type HealthReport, agentPortName } from "../protocol/guest-messages.ts";
import { AgentPort, openVirtioPort } from "./agent-port.ts";
import { AgentSessions } from "./agent-session.ts";
import { guestPaths } from "./guest-paths.ts";
import { ensureIntegrationAccounts } from "./integration-accounts.ts";
import { Supervisor } from "./supervisor.ts";

/** What init gives when it, and not the host, ends the guest. */
const signalGraceMs = 10_000;

/** One line on the console, at once: also right before the end. */
function say(line: string): void {
  writeSync(2, `mvm-agent: ${line}\n`);
}

/** A read of the port may hold a thread for ever, and an ordinary exit would wait for it. */
function endNow(): never {
  process.kill(process.pid, "SIGKILL");
  throw new Error("not reached");
}

function crash(error: unknown): never {
  say(`FAILED: ${error instanceof Error ? (error.stack ?? error.message) : describeError(error)}`);
  // Init starts the agent again at once: a defect must not take the whole CPU.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
  endNow();
}

/** What the host told this guest of itself; undefined when there is no config drive, or none of use. */
function readConfig(): GuestConfig | undefined {
  try {
    return guestConfigSchema.parse(JSON.parse(readFileSync(guestPaths.config, "utf8")));
  } catch (error) {
    say(`no usable ${guestPaths.config}: ${describeError(error)}`.slice(0, 500));
    return undefined;
  }
}

function memoryAvailableMib(): number {
  const match = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"));
  return Math.floor(Number(match?.[1] ?? 0) / 1024);
}

function powerOff(): void {
  // Init ends what is left, runs its shutdown script and unmounts; should it hang, the kernel does it.
  spawn("/bin/busybox", ["poweroff"], { stdio: "ignore" });
  setTimeout(() => spawn("/bin/busybox", ["poweroff", "-f"], { stdio: "ignore" }), 20_000);
}

async function main(): Promise<void> {
  process.on("uncaughtException", crash);
  process.on("unhandledRejection", crash);
  mkdirSync(guestPaths.agentRun, { recursive: true, mode: 0o700 });
  mkdirSync(guestPaths.logs, { recursive: true });
  writeFileSync(join(guestPaths.agentRun, "agent.pid"), String(process.pid));
  if (process.getuid?.() === 0) writeFileSync("/proc/self/oom_score_adj", "-900");

  const config = readConfig();
  ensureIntegrationAccounts(config?.integrations ?? [], guestPaths);
  const supervisor = new Supervisor(guestPaths);
  let stopping: Promise<void> | undefined;
  const stopServices = (graceMs: number): Promise<void> =>
    (stopping ??= supervisor.stop(graceMs).catch((error: unknown) => say(describeError(error))));
  process.on("SIGTERM", () => void stopServices(signalGraceMs).then(endNow));

  const port = new AgentPort(await openVirtioPort(agentPortName));
  const sessions = new AgentSessions(port, {
    bootId: readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
    instanceId: config?.instance_id ?? hostname(),
    health: async (): Promise<HealthReport> => ({
      services: await supervisor.report(),
      uptime_seconds: Math.floor(uptime()),
      memory_available_mib: memoryAvailableMib(),
    }),
    logs: (service, lines) => supervisor.logs(service, lines),
    shutdown: (graceSeconds) => void stopServices(graceSeconds * 1000).then(powerOff),
  });
  await supervisor.start();
  say(`ready ${uptime()} s after boot`);
  await port.readLoop(sessions);
}

await main();
