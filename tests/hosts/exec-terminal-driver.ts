// `mvm instance exec` at this terminal, with a guest agent in this process in place of a microVM.
// The guest falls silent when the file that the first argument names is there.
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { duplexPair } from "node:stream";
import { run } from "@stricli/core";
import { buildCommandLine } from "../../src/cli/app.ts";
import type { CliContext } from "../../src/cli/context.ts";
import { localTerminal } from "../../src/cli/local-terminal.ts";
import { Output } from "../../src/cli/output.ts";
import { AgentPort } from "../../src/guest/agent-port.ts";
import { AgentSessions } from "../../src/guest/agent-session.ts";
import { HostGuestLink } from "../../src/host/guest-link.ts";
import { processStartTicks } from "../../src/host/processes.ts";
import type { NodeOperations } from "../../src/node/operations.ts";
import { noFleet } from "../builders/no-fleet.ts";

const [silenceFile = "", ...words] = process.argv.slice(2);
const isSilent = (): boolean => existsSync(silenceFile);
// In the folder of the test, which removes it also when this process is killed.
const runDir = await mkdtemp(join(dirname(silenceFile), "run-"));

let disconnect = (): void => undefined;

const link = new HostGuestLink(
  {
    openChannel: () => {
      const [host, guest] = duplexPair();
      const port = new AgentPort({
        read: () => Promise.reject(new Error("bytes are handed to the session")),
        write: (bytes) => {
          if (!isSilent()) guest.write(Buffer.from(bytes));
          return Promise.resolve(bytes.length);
        },
      });
      const sessions = new AgentSessions(port, {
        bootId: "boot",
        instanceId: "i-00000001",
        health: () => Promise.resolve({ services: [], uptime_seconds: 1, memory_available_mib: 1 }),
        logs: () => [],
        shutdown: () => undefined,
      });
      guest.on("data", (bytes: Buffer) => {
        if (!isSilent()) sessions.onBytes(bytes);
      });
      disconnect = () => sessions.onDisconnect();
      return Promise.resolve(host);
    },
  },
  { requestTimeoutMs: 500 },
);

const node: Pick<NodeOperations, "exec"> = {
  exec: async (_address, request) => {
    const startTicks = (await processStartTicks(process.pid)) ?? 0;
    const vmm = { id: "i-00000001", runDir, pid: process.pid, startTicks };
    const session = await link.openForCommand(vmm, 5000);
    try {
      return await session.exec(request);
    } finally {
      session.close();
      disconnect();
    }
  },
};

const interrupt = new AbortController();
process.on("SIGTERM", () => interrupt.abort());
const { stdout, stderr, stdin } = process;
const streams: CliContext["process"] = { stdout, stderr, env: process.env };
let chosenExitCode = 0;
const context: CliContext = {
  process: streams,
  stdin,
  terminal: () => localTerminal(process),
  out: new Output(stdout, stderr),
  signal: interrupt.signal,
  node: () => Promise.resolve(node as NodeOperations),
  ...noFleet,
  records: () => Promise.reject(new Error("exec asks no records")),
  host: () => Promise.reject(new Error("exec asks nothing of the host's setup")),
  serveHostd: () => Promise.reject(new Error("no hostd here")),
  exitWith: (code) => {
    chosenExitCode = code;
  },
};
try {
  await run(buildCommandLine("0"), ["instance", "exec", ...words], context);
} finally {
  await rm(runDir, { recursive: true });
}
process.exitCode = Number(streams.exitCode ?? 0) || chosenExitCode;
