import assert from "node:assert/strict";
import type { PoolAddress } from "../../src/domain/ids.ts";
import type { Instance } from "../../src/domain/instance.ts";
import type { PoolRequest } from "../../src/node/pools.ts";
import type { FakeHost } from "../fakes/fake-host.ts";

/** What asks for a pool of small workers; `changes` say what is different. */
export function helloPool(address: PoolAddress, changes: Partial<PoolRequest> = {}): PoolRequest {
  return {
    address,
    role: "worker",
    flakeRef: "builtin:hello",
    profile: "minimal",
    resources: { vcpus: 1, mem_mib: 256, data_disk_mib: 0 },
    ...changes,
  };
}

/** The first instance of a host in this status; there must be one. */
export function withStatus(host: FakeHost, status: string): Instance {
  const found = host
    .records()
    .tenants.flatMap(({ instances }) => instances)
    .find(({ state }) => state.status === status);
  assert.ok(found, `no ${status} instance`);
  return found;
}
