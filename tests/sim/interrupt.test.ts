import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { addressOf } from "../../src/domain/instance.ts";
import { NodeOperations } from "../../src/node/operations.ts";
import { FakeHost } from "../fakes/fake-host.ts";
import { assertAuditWhole, assertAudited, assertNothingLeaked } from "./checkers.ts";
import { helloPool } from "./hello-pool.ts";

const tenant = parseTenantId("acme");
const web = { tenant, pool: parsePoolId("web") };

type Command = (node: NodeOperations, host: FakeHost) => Promise<unknown>;

const firstInstance = (host: FakeHost): ReturnType<typeof addressOf> => {
  const [first] = host.records().tenants[0]?.instances ?? [];
  assert.ok(first);
  return addressOf(first);
};

interface Case {
  /** How many instances run before. */
  readonly running: number;
  readonly command: Command;
  /** How many VMMs there are once the command was given again and has ended. */
  readonly living: number;
}

const cases: Readonly<Record<string, Case>> = {
  "a scale": { running: 0, command: (node) => node.scalePool(web, { running: 2 }), living: 2 },
  "a scale down": { running: 2, command: (node) => node.scalePool(web, { running: 0 }), living: 0 },
  "an instance's stop": {
    running: 1,
    command: (node, host) => node.stopInstance(firstInstance(host)),
    living: 0,
  },
  "an instance's parking": {
    running: 1,
    command: (node, host) => node.warmInstance(firstInstance(host)),
    living: 1,
  },
  "a tenant's end": {
    running: 1,
    command: async (node, host) => {
      // Interrupted after its last step, it has nothing more to do.
      if (host.records().tenants.length === 0) return;
      await node.destroyTenant(tenant, { force: true, wipe: true });
    },
    living: 0,
  },
};

/** Gives a command that the operator interrupts at its n-th call. @returns whether it came that far. */
async function interruptAt(host: FakeHost, command: Command, call: number): Promise<boolean> {
  const interrupt = new AbortController();
  const first = host.calls.length;
  host.fault = () => {
    if (host.calls.length - first === call) interrupt.abort(new Error("interrupted by SIGINT"));
    return "none";
  };
  try {
    await command(new NodeOperations(host.context(interrupt.signal)), host);
  } catch (error) {
    assert.ok(interrupt.signal.aborted, String(error instanceof Error ? error.stack : ""));
  } finally {
    host.fault = () => "none";
  }
  return interrupt.signal.aborted;
}

describe("Ctrl-C at any point", () => {
  for (const [what, { running, command, living }] of Object.entries(cases)) {
    test(`of ${what}: the same command goes on from there, and nothing is left`, async () => {
      let interrupts = 0;
      for (let call = 1; ; call += 1) {
        const seed = `${what}, call ${call}`;
        const host = new FakeHost();
        const node = new NodeOperations(host.context());
        await node.createTenant({ tenant });
        await node.createPool(helloPool(web));
        await node.scalePool(web, { running });
        if (!(await interruptAt(host, command, call))) break;
        interrupts += 1;
        assert.deepEqual(host.violations, [], seed);
        await assertAudited(host, seed);
        await command(new NodeOperations(host.context()), host);
        assert.equal(host.living().length, living, seed);
        assertNothingLeaked(host, seed);
        await assertAuditWhole(host, seed);
      }
      assert.ok(interrupts > 10, `${interrupts} interrupts`);
    });
  }
});
