import { nodeLog } from "../../domain/audit.ts";
import type { IdentityStatus, InstalledIdentity, NodeIdentity } from "../../ports/node-identity.ts";
import type { NodeContext } from "../context.ts";

type Needs = Pick<NodeContext, "audit" | "locks">;

/** What is done to the node's identity: one at a time, and written down in the node's log before. */
export class Certificates {
  readonly #context: Needs;
  readonly #identity: NodeIdentity;

  constructor(context: Needs, identity: NodeIdentity) {
    this.#context = context;
    this.#identity = identity;
  }

  async status(): Promise<IdentityStatus> {
    return this.#identity.status();
  }

  /** @param caPem the certificate of a CA elsewhere; without it a development CA. */
  async init(caPem?: string): Promise<string[]> {
    return this.#context.locks.withNode("making the node's identity", () =>
      this.#identity.init(caPem),
    );
  }

  /** @param by who asks, as the log names it. @returns a signing request, PEM. */
  async request(by: string): Promise<string> {
    const { audit, locks } = this.#context;
    return locks.withNode("asking for a certificate", async () => {
      const request = await this.#identity.request();
      await audit.append(nodeLog, { type: "CertificateRequested", object: nodeLog, by_peer: by });
      return request;
    });
  }

  async install(
    parts: Parameters<NodeIdentity["install"]>[0],
    by: string,
  ): Promise<InstalledIdentity> {
    return this.#changed(by, parts.revocations !== undefined, () => this.#identity.install(parts));
  }

  async rotate(by: string): Promise<InstalledIdentity> {
    return this.#changed(by, false, () => this.#identity.rotate());
  }

  async #changed(
    by: string,
    withList: boolean,
    work: () => Promise<InstalledIdentity>,
  ): Promise<InstalledIdentity> {
    const { audit, locks } = this.#context;
    return locks.withNode("installing a certificate", async () => {
      const installed = await work();
      const { serial, expires_at, revoked } = installed;
      const about = { object: nodeLog, by_peer: by };
      if (serial !== null && expires_at !== null) {
        await audit.append(nodeLog, { type: "CertificateInstalled", ...about, serial, expires_at });
      }
      if (withList) {
        await audit.append(nodeLog, { type: "RevocationsInstalled", ...about, revoked });
      }
      return installed;
    });
  }
}
