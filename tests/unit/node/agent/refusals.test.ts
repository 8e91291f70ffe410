import assert from "node:assert/strict";
import { test } from "node:test";
import { nodeLog } from "../../../../src/domain/audit.ts";
import { OperationError } from "../../../../src/domain/errors.ts";
import { Refusals } from "../../../../src/node/agent/refusals.ts";
import { FakeHost } from "../../../fakes/fake-host.ts";

const refusal = {
  peer: "node other",
  address: "192.0.2.1:1",
  command: "Plan",
  cause: "a node may not ask for Plan",
};

test("a refusal is written at once, and equal ones a minute later with how many there were", async () => {
  const host = new FakeHost();
  const context = host.context();
  const refusals = new Refusals(context);
  await refusals.add(refusal);
  for (let count = 0; count < 500; count += 1) await refusals.add(refusal);
  await refusals.add({ ...refusal, command: "TenantList" });
  host.nowMs += 60_000;
  await refusals.add(refusal);
  const lines = (await context.audit.last(nodeLog, 10)) ?? [];
  assert.deepEqual(
    lines.map(
      ({ type, fields }) => `${type} ${String(fields["command"])} ${String(fields["times"])}`,
    ),
    ["PeerRefused Plan 1", "PeerRefused TenantList 1", "PeerRefused Plan 501"],
  );
  assert.equal(refusals.total, 503);
});

test("a refusal that cannot be written down is a refusal all the same, and is said", async () => {
  const said: string[] = [];
  const context = new FakeHost().context();
  const refusals = new Refusals({
    ...context,
    locks: {
      ...context.locks,
      withNode: () => Promise.reject(new OperationError("the disk is full")),
    },
    onProgress: (line) => said.push(line),
  });
  await refusals.add(refusal);
  assert.match(said.join(), /node other was refused .*the disk is full/);
});
