import assert from "node:assert/strict";
import { test } from "node:test";
import { describeError } from "../../src/domain/errors.ts";
import { type InstanceAddress, parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { addressOf } from "../../src/domain/instance.ts";
import type { DesiredCounts } from "../../src/domain/pool.ts";
import { NodeOperations } from "../../src/node/operations.ts";
import { CrashError, FakeHost } from "../fakes/fake-host.ts";
import { assertAuditWhole, assertAudited, assertNothingLeaked } from "./checkers.ts";
import { helloPool, withStatus } from "./hello-pool.ts";

const tenant = parseTenantId("acme");
const web = { tenant, pool: parsePoolId("web") };

/** A command that an operator gives for an instance, where the pool's counts alone would undo it. */
interface ByHand {
  readonly command: string;
  /** Scaled to one after the other; the last is what the pool wants while the command runs. */
  readonly counts: readonly Partial<DesiredCounts>[];
  readonly status: string;
  readonly give: (node: NodeOperations, address: InstanceAddress) => Promise<void>;
  /** Whether the command has had its effect on the instance's VMM. */
  readonly isDone: (host: FakeHost, address: InstanceAddress) => boolean;
}

const vmmOf = (
  host: FakeHost,
  { instance }: InstanceAddress,
): FakeHost["vmms"][number] | undefined => host.living().find(({ id }) => id === instance);

const commands: readonly ByHand[] = [
  {
    command: "stop",
    counts: [{ running: 1 }],
    status: "running",
    give: (node, address) => node.stopInstance(address),
    isDone: (host, address) => vmmOf(host, address) === undefined,
  },
  {
    command: "start",
    counts: [{ running: 1 }, { running: 0 }],
    status: "stopped",
    give: (node, address) => node.startInstance(address),
    isDone: (host, address) => vmmOf(host, address) !== undefined,
  },
  {
    command: "warm",
    counts: [{ running: 1 }],
    status: "running",
    give: (node, address) => node.warmInstance(address),
    isDone: (host, address) => vmmOf(host, address)?.paused === true,
  },
  {
    command: "wake",
    counts: [{ running: 0, warm: 1 }],
    status: "warm",
    give: (node, address) => node.wakeInstance(address),
    isDone: (host, address) => vmmOf(host, address)?.paused === false,
  },
];

for (const { command, counts, status, give, isDone } of commands) {
  test(`an operator's ${command} that dies at any call is not undone by the reconciler`, async () => {
    let [kills, kept] = [0, 0];
    for (const when of ["crash-before", "crash-after"] as const) {
      for (let call = 1; ; call += 1) {
        const seed = `${command}: ${when} call ${call}`;
        const host = new FakeHost();
        const node = new NodeOperations(host.context());
        await node.createTenant({ tenant });
        await node.createPool(helloPool(web));
        for (const wanted of counts) await node.scalePool(web, wanted);
        const address = addressOf(withStatus(host, status));
        const first = host.calls.length;
        host.fault = () => (host.calls.length - first === call ? when : "none");
        const end = await give(new NodeOperations(host.context()), address).then(
          () => undefined,
          (error: unknown) => error,
        );
        host.fault = () => "none";
        if (end === undefined) break;
        assert.ok(end instanceof CrashError, `${seed}: ${describeError(end)}`);
        kills += 1;
        await assertAudited(host, seed);
        const wasDone = isDone(host, address);
        await new NodeOperations(host.context()).scalePool(web, {});
        if (wasDone) assert.ok(isDone(host, address), `${seed}: it was undone`);
        if (wasDone) kept += 1;
        assertNothingLeaked(host, seed);
        await assertAuditWhole(host, seed);
      }
    }
    assert.ok(kills > 20 && kept > 5, `${kills} kills, ${kept} of them after its effect`);
  });
}
