import { createHash } from "node:crypto";
import type { AuditDisk } from "../../src/host/audit/audit-disk.ts";
import type { HeadSignature, HeadSigner } from "../../src/host/audit/audit-head.ts";

/** Audit files in memory. */
export class MemoryAuditDisk implements AuditDisk {
  readonly logs: Map<string, Buffer> = new Map();
  readonly heads: Map<string, string> = new Map();

  async size(tenant: string): Promise<number | undefined> {
    return this.logs.get(tenant)?.length;
  }

  async read(tenant: string, offset: number, length: number): Promise<Buffer> {
    return (this.logs.get(tenant) ?? Buffer.alloc(0)).subarray(offset, offset + length);
  }

  add(tenant: string, bytes: string): void {
    const before = this.logs.get(tenant) ?? Buffer.alloc(0);
    this.logs.set(tenant, Buffer.concat([before, Buffer.from(bytes)]));
  }

  cut(tenant: string, size: number): void {
    const before = this.logs.get(tenant);
    if (before !== undefined) this.logs.set(tenant, before.subarray(0, size));
  }

  async append(tenant: string, bytes: string): Promise<void> {
    this.add(tenant, bytes);
  }

  async truncate(tenant: string, size: number): Promise<void> {
    this.cut(tenant, size);
  }

  async readHead(tenant: string): Promise<string | undefined> {
    return this.heads.get(tenant);
  }

  async writeHead(tenant: string, text: string): Promise<void> {
    this.heads.set(tenant, text);
  }
}

/** A signature that only tells what was signed apart from what was not. */
export const fakeSigner: HeadSigner = {
  async sign(text): Promise<HeadSignature> {
    return { certificate: "fake", signature: digest(text) };
  },
  async check(text, { signature }): Promise<string | undefined> {
    return signature === digest(text) ? undefined : "its signature does not fit what it says";
  },
};

function digest(text: string): string {
  return createHash("sha256").update(`key ${text}`).digest("base64");
}
