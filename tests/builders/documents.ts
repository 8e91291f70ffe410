import type { Quotas } from "../../src/domain/quota.ts";
import { type KeyObject, generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  type SignedDesired,
  rawPublicKey,
  signDesired,
} from "../../src/protocol/signed-desired.ts";

/** The document of the onboarding guide, byte for byte. */
export const guideDocument: Buffer = readFileSync(
  join(import.meta.dirname, "..", "golden", "onboarding-guide.json"),
);

/** A document as it is written, to be changed before it is read. */
export interface WrittenDocument {
  [field: string]: unknown;
  node_id: string;
  tenants: WrittenTenant[];
}

export interface WrittenTenant {
  [field: string]: unknown;
  pools: WrittenPool[];
}

export type WrittenPool = Record<string, unknown>;

export function guide(): WrittenDocument {
  return JSON.parse(guideDocument.toString("utf8")) as WrittenDocument;
}

export function bytesOf(document: unknown): Buffer {
  return Buffer.from(JSON.stringify(document));
}

/** A pool as a document writes it, with no more than it has to say. */
export function writtenPool(id: string, changes: WrittenPool = {}): WrittenPool {
  return {
    pool_id: id,
    flake_ref: "builtin:hello",
    profile: "minimal",
    instance_resources: { vcpus: 1, mem_mib: 256, data_disk_mib: 0 },
    desired_counts: { running: 1, warm: 0, sleeping: 0 },
    ...changes,
  };
}

export function writtenTenant(
  id: string,
  netId: number,
  pools: WrittenPool[],
  { quota = {}, ...changes }: Record<string, unknown> & { quota?: Partial<Quotas> } = {},
): WrittenTenant {
  return {
    tenant_id: id,
    network: {
      tenant_net_id: netId,
      ipv4_subnet: `10.${240 + Math.floor(netId / 256)}.${netId % 256}.0/24`,
    },
    quotas: {
      max_vcpus: 32,
      max_mem_mib: 65_536,
      max_running: 16,
      max_warm: 8,
      max_pools: 10,
      max_instances_per_pool: 32,
      max_disk_gib: 500,
      ...quota,
    },
    ...changes,
    pools,
  };
}

export function writtenDocument(
  tenants: WrittenTenant[],
  changes: Record<string, unknown> = {},
): WrittenDocument {
  return { schema_version: 1, node_id: "local", tenants, ...changes };
}

/** A coordinator with a key of its own. */
export class TestCoordinator {
  readonly key: KeyObject = generateKeyPairSync("ed25519").privateKey;

  get publicKey(): Buffer {
    return rawPublicKey(this.key);
  }

  sign(
    document: Uint8Array,
    about: Partial<Parameters<typeof signDesired>[1]> = {},
  ): SignedDesired {
    return signDesired(
      this.key,
      { node_id: "node-a", generation: 1, expires_at: "2030-01-01T00:00:00.000Z", ...about },
      document,
    );
  }
}
