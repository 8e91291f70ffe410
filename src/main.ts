import { readFileSync } from "node:fs";
import { join } from "node:path";
import { proposeCompletions, run } from "@stricli/core";
import { buildCommandLine } from "./cli/app.ts";
import { completeWord } from "./cli/completion.ts";
import type { CliContext } from "./cli/context.ts";
import {
  InterruptedError,
  interruptedExitCode,
  normalizeExitCode,
  renderError,
  exitCodeOf,
} from "./cli/exit-codes.ts";
import { Descriptor } from "./cli/descriptor.ts";
import { localTerminal } from "./cli/local-terminal.ts";
import { Output } from "./cli/output.ts";
import type { HostParts } from "./compose-node.ts";
import { HostLacksError } from "./domain/errors.ts";

// From src/ in a checkout and from dist/ as a bundle: both lie in the folder of mvm.
const projectDir = join(import.meta.dirname, "..");

/** Runs the command line and sets the exit code. */
async function main(): Promise<void> {
  const { stdout, stderr } = standardStreams();
  const out = new Output(stdout, stderr);
  const interrupt = new AbortController();
  watchSignals(interrupt, out);

  // A process of agentd's user does what needs root through hostd.
  const hostdSocket = process.env["MVM_HOSTD_SOCKET"];
  // Loaded when a command asks for them: help and errors of usage need neither.
  const parts = async (socket = hostdSocket): Promise<HostParts> => {
    if (process.getuid?.() !== 0 && socket === undefined) {
      throw new HostLacksError("mvm needs root", { hint: "run it with sudo" });
    }
    const { rootsFromEnvironment } = await import("./host/roots.ts");
    const roots = rootsFromEnvironment(process.env);
    return { roots, projectDir, version: readVersion(), out, signal: interrupt.signal };
  };
  let chosenExitCode: number | undefined;
  const streams: CliContext["process"] = { stdout, stderr, env: process.env };
  const context: CliContext = {
    process: streams,
    // Opened by the first who asks: most commands read nothing.
    get stdin() {
      return process.stdin;
    },
    terminal: () => localTerminal(process),
    out,
    signal: interrupt.signal,
    records: async () => {
      const { roots } = await parts();
      return (await import("./compose-queries.ts")).composeQueries(roots);
    },
    node: async () => {
      const given = await parts();
      return (await import("./compose-node.ts")).composeNode(given, hostdSocket);
    },
    host: async () => {
      const given = await parts();
      return (await import("./compose-host.ts")).composeHost(given, hostdSocket);
    },
    certificates: async () => {
      const given = await parts();
      return (await import("./compose-agent.ts")).composeCertificates(given);
    },
    authority: async () => (await import("./compose-fleet.ts")).composeAuthority(process.env),
    signingKeys: async () => (await import("./compose-fleet.ts")).composeSigningKeys(process.env),
    fleet: async () =>
      (await import("./compose-fleet.ts")).composeFleet(process.env, interrupt.signal),
    serveHostd: async () => {
      const given = await parts();
      await (await import("./compose-hostd.ts")).serveHostd(given);
    },
    serveAgent: async (options) => {
      const socket = options.hostdSocket ?? hostdSocket;
      const given = await parts(socket);
      await (
        await import("./compose-agent.ts")
      ).composeAgent(given, { ...options, hostdSocket: socket });
    },
    exitWith: (code) => {
      chosenExitCode = code;
    },
  };
  const [word, ...words] = process.argv.slice(2);
  if (word === completeWord) {
    const found = await proposeCompletions(buildCommandLine(readVersion()), words, context);
    // `--` alone ends the flags; proposed, it would be in the way of all else.
    for (const { completion } of found) if (completion !== "--") out.data(completion);
    return;
  }
  await run(buildCommandLine(readVersion()), process.argv.slice(2), context);
  const failed = normalizeExitCode(streams.exitCode);
  // Some commands are meant to be ended by a signal, and say so; what fails after it was interrupted by it.
  process.exitCode = interrupt.signal.aborted
    ? (chosenExitCode ?? interruptedExitCode)
    : failed || (chosenExitCode ?? 0);
}

/** Ends the process when nobody takes its data; a reader that goes away, such as `head`, is no failure. */
function standardStreams(): { readonly stdout: Descriptor; readonly stderr: Descriptor } {
  const stderr = new Descriptor(2, (error) => {
    // The work goes on when nobody reads how it goes. Of any other failure nothing can be said.
    if (error.code !== "EPIPE") process.exit(1);
  });
  const stdout = new Descriptor(1, (error) => {
    if (error.code === "EPIPE") process.exit(0);
    stderr.write(`mvm: standard output cannot be written: ${error.message}\n`);
    process.exit(1);
  });
  return { stdout, stderr };
}

/** The first signal ends the work in good order, the second at once. */
function watchSignals(interrupt: AbortController, out: Output): void {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      if (interrupt.signal.aborted) process.exit(interruptedExitCode);
      out.note("mvm: stopping; the same command goes on from here");
      interrupt.abort(new InterruptedError(`interrupted by ${signal}`));
    });
  }
}

function readVersion(): string {
  const text = readFileSync(join(projectDir, "package.json"), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

let settled = false;
// Node ends without a word when nothing is left that could wake it, even in the middle of the work.
process.on("exit", () => {
  if (settled || process.exitCode !== undefined) return;
  process.stderr.write("mvm: ended before its work did, which is a defect of mvm; run it again\n");
  process.exitCode = 1;
});
main()
  .catch((error: unknown) => {
    process.stderr.write(`${renderError(error)}\n`);
    process.exitCode = exitCodeOf(error);
  })
  .finally(() => {
    settled = true;
  });
