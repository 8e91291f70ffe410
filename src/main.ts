import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "@stricli/core";
import { buildCommandLine } from "./cli/app.ts";
import type { CliContext } from "./cli/context.ts";
import {
  interruptedExitCode,
  normalizeExitCode,
  renderError,
  exitCodeOf,
} from "./cli/exit-codes.ts";
import { Output } from "./cli/output.ts";
import { HostLacksError } from "./domain/errors.ts";
import { parseInstanceId } from "./domain/ids.ts";
import { isErrno } from "./host/files.ts";
import type { Roots } from "./host/roots.ts";
import type { NodeContext } from "./node/context.ts";
import type { NodeOperations } from "./node/operations.ts";
import type { HostSetup } from "./ports/host-setup.ts";

const bootTimeoutMs = 180_000;
const buildTimeoutMs = 3_600_000;

const projectDir = dirname(dirname(fileURLToPath(import.meta.url)));

interface Adapters {
  readonly node: NodeContext;
  readonly host: HostSetup;
}

/** Builds every adapter of a Linux host. Loaded late: help and errors of usage need none of it. */
async function buildAdapters(roots: Roots, out: Output, signal: AbortSignal): Promise<Adapters> {
  const [
    { HostExec },
    { HttpsDownload },
    { HostDrives },
    { HostGuestLink },
    { lastLogLines },
    { LinuxBuilderNetwork },
    { LinuxNetwork },
    { LinuxHostSetup },
    { requirePlatform },
    { FileStore },
    { FileSecretStore },
    { FileImages },
    { FileLocks },
    { orderedLocks },
    { systemClock },
    { AuditLog },
    { AuditFiles },
    { NodeSigner },
    { HostMeters },
    { QemuVmm },
    { instanceRunRoot },
    { MicrovmImageBuilder },
    { writeGuestInitrd },
    { vmUids },
    { CrashPoints },
  ] = await Promise.all([
    import("./host/exec.ts"),
    import("./host/https-download.ts"),
    import("./host/drives/host-drives.ts"),
    import("./host/guest-link.ts"),
    import("./host/log-files.ts"),
    import("./host/net/builder-network.ts"),
    import("./host/net/linux-network.ts"),
    import("./host/setup/linux-host-setup.ts"),
    import("./host/setup/platform-file.ts"),
    import("./host/store/file-store.ts"),
    import("./host/store/file-secret-store.ts"),
    import("./host/store/file-images.ts"),
    import("./host/store/file-locks.ts"),
    import("./node/ordered-locks.ts"),
    import("./host/system-clock.ts"),
    import("./host/audit/audit-log.ts"),
    import("./host/audit/audit-disk.ts"),
    import("./host/audit/node-signer.ts"),
    import("./host/host-meters.ts"),
    import("./host/vmm/qemu/qemu-vmm.ts"),
    import("./host/roots.ts"),
    import("./image/microvm-image-builder.ts"),
    import("./image/guest-image.ts"),
    import("./host/vmm/uids.ts"),
    import("./node/crash-points.ts"),
  ]);
  const points = new CrashPoints(crashAt(process.env["MVM_CRASH_AT"], out));
  const exec = new HostExec();
  const vmm = points.vmm(new QemuVmm(() => requirePlatform(roots.stateDir)));
  const network = points.network(new LinuxNetwork({ exec, ...roots, vmUidBase: vmUids.first }));
  const store = points.store(new FileStore(roots));
  const locks = orderedLocks(new FileLocks(roots, { signal }));
  const onProgress = (line: string): void => out.progress(line);
  const version = readVersion();
  const builder = points.builder(
    new MicrovmImageBuilder({
      stateDir: roots.stateDir,
      runDir: roots.runDir,
      projectDir,
      exec,
      vmm,
      uid: vmUids.builder,
      builtBy: `mvm ${version}`,
      download: new HttpsDownload(),
      network: new LinuxBuilderNetwork({
        exec,
        stateDir: roots.stateDir,
        withNode: (what, work) => locks.withNode(what, work),
      }),
      now: () => new Date(systemClock.nowMs()),
    }),
  );
  return {
    node: {
      settings: {
        vmUidBase: vmUids.first,
        instanceRunRoot: instanceRunRoot(roots),
        bootTimeoutMs,
        buildTimeoutMs,
        production: process.env["MVM_PRODUCTION"] === "1",
        startingVcpus: availableParallelism(),
        parallelActions: availableParallelism(),
      },
      store,
      secrets: points.secrets(new FileSecretStore(roots)),
      audit: new AuditLog({
        disk: new AuditFiles(roots),
        signer: new NodeSigner(roots.stateDir),
        clock: systemClock,
        by: operatorName(process.env),
      }),
      images: new FileImages(roots),
      builder,
      drives: points.drives(new HostDrives(roots, exec)),
      network,
      vmm,
      guestLink: new HostGuestLink(vmm),
      logs: { tail: lastLogLines },
      meters: new HostMeters(roots),
      locks,
      clock: systemClock,
      newInstanceId: () => parseInstanceId(`i-${randomBytes(4).toString("hex")}`),
      newToken: () => randomBytes(32).toString("hex"),
      onProgress,
      signal,
    },
    host: new LinuxHostSetup({
      roots,
      store,
      vmm,
      network,
      builder,
      exec,
      locks,
      projectDir,
      version,
      builderUid: vmUids.builder,
      clock: systemClock,
      onProgress,
      writeInitrd: (path) =>
        writeGuestInitrd({ payloads: join(roots.stateDir, "payloads"), project: projectDir }, path),
    }),
  };
}

/**
 * What to do at each crash point, for tests: nothing when the variable is not set; to say it when it is
 * `list`; else to end this process as `kill -9` does, at the first point of that name.
 */
function crashAt(wanted: string | undefined, out: Output): ((point: string) => void) | undefined {
  if (wanted === undefined) return undefined;
  return (point) => {
    if (wanted === "list") out.note(`crash point ${point}`);
    if (wanted === point) process.kill(process.pid, "SIGKILL");
  };
}

/** Runs the command line and sets the exit code. */
async function main(): Promise<void> {
  const out = new Output(process.stdout, process.stderr);
  const interrupt = new AbortController();
  watchSignals(interrupt, out);
  watchOutput();

  let adapters: Promise<Adapters> | undefined;
  const build = async (): Promise<Adapters> => {
    if (process.getuid?.() !== 0) {
      throw new HostLacksError("mvm needs root", { hint: "run it with sudo" });
    }
    const { rootsFromEnvironment } = await import("./host/roots.ts");
    adapters ??= buildAdapters(rootsFromEnvironment(process.env), out, interrupt.signal);
    return adapters;
  };
  let chosenExitCode = 0;
  const streams: CliContext["process"] = {
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
  };
  const context: CliContext = {
    process: streams,
    stdin: process.stdin,
    out,
    signal: interrupt.signal,
    node: async (): Promise<NodeOperations> => {
      const { NodeOperations } = await import("./node/operations.ts");
      return new NodeOperations((await build()).node);
    },
    host: async (): Promise<HostSetup> => (await build()).host,
    exitWith: (code) => {
      chosenExitCode = code;
    },
  };
  await run(buildCommandLine(readVersion()), process.argv.slice(2), context);
  const exitCode = normalizeExitCode(streams.exitCode) || chosenExitCode;
  process.exitCode = interrupt.signal.aborted ? interruptedExitCode : exitCode;
}

/** Ends the process when nobody takes its data; a reader that goes away, such as `head`, is no failure. */
function watchOutput(): void {
  process.stdout.on("error", (error) => {
    if (isErrno(error, "EPIPE")) process.exit(0);
    process.stderr.write(`mvm: standard output cannot be written: ${error.message}\n`);
    process.exit(1);
  });
  process.stderr.on("error", (error) => {
    // The work goes on when nobody reads how it goes. Of any other failure nothing can be said.
    if (!isErrno(error, "EPIPE")) process.exit(1);
  });
}

/** The first signal ends the work in good order, the second at once. */
function watchSignals(interrupt: AbortController, out: Output): void {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      if (interrupt.signal.aborted) process.exit(interruptedExitCode);
      out.note("mvm: stopping; the same command goes on from here");
      interrupt.abort(new Error(`interrupted by ${signal}`));
    });
  }
}

/** Who runs the command: whom sudo says it runs for, else root. */
function operatorName(env: Readonly<Record<string, string | undefined>>): string {
  const user = env["SUDO_USER"];
  return user === undefined || user === "root" ? "root" : `${user.slice(0, 64)} (sudo)`;
}

function readVersion(): string {
  const text = readFileSync(join(projectDir, "package.json"), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${renderError(error)}\n`);
  process.exitCode = exitCodeOf(error);
}
