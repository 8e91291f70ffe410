import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { renderRuleset } from "../../../../src/host/net/ruleset.ts";
import { type EgressPolicy, egressPolicy } from "../../../../src/domain/egress.ts";
import { tenantState } from "../../../hosts/tenant-topology.ts";

const options = { vmUidBase: 900_000, hostNetworks: ["192.0.2.5/24"] };
const allowList = egressPolicy({
  mode: "allow",
  cidrs: ["192.0.2.0/24"],
  domains: ["example.com"],
  ports: [443],
});
const golden = new URL("../../../golden/ruleset-two-tenants.nft", import.meta.url);

test("the ruleset of two tenants is as in the golden file", async () => {
  const [restricted] = tenantState(1, [4], allowList).ports;
  const [closed] = tenantState(1, [5], { mode: "none" }).ports;
  assert.ok(restricted !== undefined && closed !== undefined);
  const first = tenantState(1, [2, 3]);
  const tenants = [{ ...first, ports: [...first.ports, restricted, closed] }, tenantState(256, [])];
  const text = renderRuleset(tenants, options);
  if (process.env["MVM_UPDATE_GOLDEN"] === "1") await writeFile(golden, text);
  assert.equal(text, await readFile(golden, "utf8"));
});

test("the ruleset does not depend on the order in which state was read", () => {
  const [first, second] = [tenantState(1, [2, 3]), tenantState(2, [2])];
  assert.equal(
    renderRuleset([first, second], options),
    renderRuleset([second, { ...first, ports: first.ports.toReversed() }], options),
  );
});

test("without tenants there are no tables, unless links are there that nobody could name", () => {
  assert.equal(renderRuleset([], options), "");
  const closed = renderRuleset([], { ...options, closeUnknown: true });
  assert.match(closed, /iifname "br-tenant-\*" goto from_guest/);
  assert.doesNotMatch(closed, /10\.240\.1\./);
});

test("the number of rules does not grow with tenants, and by a few with each different list", () => {
  const rules = (policies: readonly EgressPolicy[]): number =>
    renderRuleset(
      policies.map((policy, index) => tenantState(index + 1, [2, 3], policy)),
      options,
    ).match(/ comment "/g)?.length ?? 0;
  const open = rules([{ mode: "open" }]);
  assert.equal(rules(Array.from({ length: 100 }, () => ({ mode: "open" }))), open);
  assert.equal(rules([{ mode: "none" }]), open);
  assert.equal(rules([allowList]), open + 6);
});

test("every rule has a comment that names it in its chain", () => {
  for (const chain of renderRuleset([tenantState(1, [2], allowList)], options).split("\tchain ")) {
    const rules = chain
      .split("\n")
      .filter((line) => line.startsWith("\t\t") && !/^\t\t(#|type |elements|\t|\})/.test(line));
    const comments = rules.map((rule) => / comment "([^"]{1,120})"$/.exec(rule)?.[1]);
    if (!chain.startsWith("table")) assert.ok(comments.every((comment) => comment !== undefined));
    assert.equal(new Set(comments).size, comments.length, chain);
  }
});
