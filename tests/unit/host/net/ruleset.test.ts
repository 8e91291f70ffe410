import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { renderRuleset } from "../../../../src/host/net/ruleset.ts";
import { tenantState } from "../../../hosts/tenant-topology.ts";

const options = { vmUidBase: 900_000, hostNetworks: ["192.0.2.5/24"] };
const golden = new URL("../../../golden/ruleset-two-tenants.nft", import.meta.url);

test("the ruleset of two tenants is as in the golden file", async () => {
  const text = renderRuleset([tenantState(1, [2, 3]), tenantState(256, [])], options);
  assert.equal(text, await readFile(golden, "utf8"));
});

test("the ruleset does not depend on the order in which state was read", () => {
  const [first, second] = [tenantState(1, [2, 3]), tenantState(2, [2])];
  assert.equal(
    renderRuleset([first, second], options),
    renderRuleset([second, { ...first, ports: first.ports.toReversed() }], options),
  );
});

test("without tenants the ruleset only removes the two tables", () => {
  assert.equal(
    renderRuleset([], options),
    "table inet mvm\ndelete table inet mvm\ntable bridge mvm\ndelete table bridge mvm\n",
  );
});

test("the number of rules does not grow with tenants", () => {
  const rules = (count: number): number =>
    renderRuleset(
      Array.from({ length: count }, (_, index) => tenantState(index + 1, [2])),
      options,
    )
      .split("\n")
      .filter((line) => /\b(accept|drop|goto \w+|masquerade)$/.test(line)).length;
  assert.equal(rules(100), rules(1));
});
