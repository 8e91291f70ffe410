import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../../context.ts";
import { optionalText, wholeNumber } from "../../parameters.ts";

interface Flags {
  readonly intervalSecs: number;
  readonly desired?: string;
  readonly hostdSocket?: string;
  readonly listen: string;
  readonly metricsPort: number;
  readonly ratePerSecond: number;
  readonly rateBurst: number;
}

/** `mvm agent serve` */
export const agentServe: Command<CliContext> = buildCommand<Flags, [], CliContext>({
  docs: {
    brief: "Be this node's daemon: keep it as its document says, and answer coordinators",
    fullDescription:
      "Looks at everything at its start, which adopts microVMs that run, when a document is pushed, and at each interval. Answers coordinators over QUIC, local commands on agent.sock in the run folder, and metrics on the loopback. SIGTERM ends it in good order: no new requests, running actions end, microVMs stay up.",
  },
  parameters: {
    flags: {
      intervalSecs: {
        kind: "parsed",
        parse: wholeNumber(1, 86_400),
        default: "30",
        brief: "Look at everything at least this often",
      },
      desired: optionalText("A document, or a signed one, to take first", "file"),
      hostdSocket: optionalText(
        "Socket of hostd, which then does what needs root; without it this process does",
        "path",
      ),
      listen: {
        kind: "parsed",
        parse: String,
        default: "0.0.0.0:4433",
        brief: "UDP address for coordinators",
        placeholder: "host:port",
      },
      metricsPort: {
        kind: "parsed",
        parse: wholeNumber(0, 65_535),
        default: "9433",
        brief: "Port of /metrics, /healthz and /readyz on 127.0.0.1; 0 for none",
      },
      ratePerSecond: {
        kind: "parsed",
        parse: wholeNumber(1, 100_000),
        default: "10",
        brief: "Requests a second that each peer may make",
      },
      rateBurst: {
        kind: "parsed",
        parse: wholeNumber(1, 100_000),
        default: "100",
        brief: "Requests that a peer may make at once after a pause",
      },
    },
  },
  async func(flags) {
    const { readDesiredFile } = await import("../../desired-file.ts");
    const desired = flags.desired === undefined ? undefined : await readDesiredFile(flags.desired);
    await this.serveAgent({
      intervalMs: flags.intervalSecs * 1000,
      listen: flags.listen,
      metricsPort: flags.metricsPort === 0 ? undefined : flags.metricsPort,
      rateLimit: { perSecond: flags.ratePerSecond, burst: flags.rateBurst },
      desired,
      hostdSocket: flags.hostdSocket,
    });
    this.exitWith(0);
  },
});
