import { join } from "node:path";
import type { Duplex } from "node:stream";
import { UsageError } from "../../domain/errors.ts";
import { parseInstanceId } from "../../domain/ids.ts";
import type { Vmm, VmmCapabilities, VmmProcess, VmmSpec } from "../../ports/vmm.ts";
import type { VmmName } from "../../protocol/hostd-objects.ts";
import type { GuestMeeting } from "../guest-link.ts";
import type { Roots } from "../roots.ts";
import type { HostdClient } from "./client.ts";
import { agentSocketsFolder } from "./run-folder.ts";

const startMs = 60_000;
/** Beyond what a stop or a wait may take by itself. */
const slackMs = 30_000;

/** VMMs of instances, as hostd starts and steers them. */
export class RemoteVmm implements Vmm {
  readonly capabilities: VmmCapabilities;
  readonly #hostd: HostdClient;
  readonly #runRoot: string;

  constructor(hostd: HostdClient, capabilities: VmmCapabilities, runRoot: string) {
    this.#hostd = hostd;
    this.capabilities = capabilities;
    this.#runRoot = runRoot;
  }

  async start({ machine }: VmmSpec, signal?: AbortSignal): Promise<VmmProcess> {
    if (machine === undefined) throw new UsageError("hostd starts VMMs of instances only");
    const { vmm } = await this.#hostd.call(
      "VmmStart",
      { machine, adopt: false },
      { timeoutMs: startMs, signal, again: { machine, adopt: true } },
    );
    return this.#processOf(vmm);
  }

  async list(runRoot: string): Promise<VmmProcess[]> {
    if (runRoot !== this.#runRoot) throw new UsageError("hostd lists VMMs of instances only");
    const { vmms } = await this.#hostd.call("VmmList", {});
    return vmms.map((name) => this.#processOf(name));
  }

  async pause(process: VmmProcess): Promise<void> {
    await this.#hostd.call("VmmPause", { vmm: nameOf(process) });
  }

  async resume(process: VmmProcess): Promise<void> {
    await this.#hostd.call("VmmResume", { vmm: nameOf(process) });
  }

  async stop(process: VmmProcess, graceMs: number): Promise<void> {
    const options = { timeoutMs: graceMs + slackMs };
    await this.#hostd.call("VmmStop", { vmm: nameOf(process), graceMs }, options);
  }

  openChannel(process: VmmProcess, signal?: AbortSignal): Promise<Duplex> {
    return this.#hostd.open("GuestChannel", { vmm: nameOf(process) }, { signal });
  }

  #processOf({ id, pid, startTicks }: VmmName): VmmProcess {
    return { id, pid, startTicks, runDir: join(this.#runRoot, id) };
  }
}

/** hostd holds the turn to talk to a guest for as long as it is connected; the socket to ask through others by is agentd's own. */
export function remoteMeeting(hostd: HostdClient, roots: Roots): GuestMeeting {
  return {
    turn: async (process, waitMs, signal) => {
      const turn = await hostd.open(
        "GuestTurn",
        { vmm: nameOf(process), waitMs },
        { timeoutMs: waitMs + slackMs, signal },
      );
      return {
        release: async () => {
          turn.destroy();
        },
      };
    },
    sharedSocket: ({ id }) => join(agentSocketsFolder(roots), `${id}.sock`),
  };
}

function nameOf({ id, pid, startTicks }: VmmProcess): VmmName {
  return { id: parseInstanceId(id), pid, startTicks };
}
