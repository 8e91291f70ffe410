import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HostdClient } from "../../src/host/hostd/client.ts";
import { HostdListener, type HostdListenerOptions } from "../../src/host/hostd/listener.ts";
import type { HostdHandlers } from "../../src/ports/hostd.ts";

const root = { pid: 1, uid: 0, gid: 0 };

/** A hostd and its client in this process, with a real socket between them. */
export class HostdLink implements AsyncDisposable {
  readonly folder: string;
  readonly path: string;
  readonly client: HostdClient;
  readonly notes: string[] = [];
  #listener: HostdListener | undefined;

  private constructor(folder: string) {
    this.folder = folder;
    this.path = join(folder, "hostd.sock");
    this.client = new HostdClient({ path: this.path, peerOf: () => root, reconnectMs: 3000 });
  }

  static async make(
    handlers: HostdHandlers,
    options: Partial<HostdListenerOptions> = {},
  ): Promise<HostdLink> {
    const link = new HostdLink(await mkdtemp(join(tmpdir(), "mvm-hostd-")));
    await link.listen(handlers, options);
    return link;
  }

  async listen(
    handlers: HostdHandlers,
    options: Partial<HostdListenerOptions> = {},
  ): Promise<void> {
    this.#listener = await HostdListener.open({
      path: this.path,
      gid: process.getgid?.() ?? 0,
      ownerUid: process.getuid?.() ?? 0,
      agentUid: 917_001,
      handlers,
      peerOf: () => ({ pid: 1, uid: 917_001, gid: 917_002 }),
      onNote: (line) => this.notes.push(line),
      ...options,
    });
  }

  /** Ends the listener as a crash would: connections end, and nobody listens any more. */
  async drop(): Promise<void> {
    await this.#listener?.close(0);
    this.#listener = undefined;
    await rm(this.path, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.drop();
    await rm(this.folder, { recursive: true });
  }
}
