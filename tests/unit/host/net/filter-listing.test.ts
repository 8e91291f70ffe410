import assert from "node:assert/strict";
import { test } from "node:test";
import {
  compareListings,
  parseListing,
  renderRemoval,
} from "../../../../src/host/net/filter-listing.ts";

const table = { table: { family: "inet", name: "mvm", handle: 1 } };
const chain = {
  chain: { family: "inet", table: "mvm", name: "input", handle: 2, policy: "accept" },
};
const fixed = {
  set: { family: "inet", table: "mvm", name: "closed", handle: 3, elem: ["a", "b"] },
};
const filled = {
  set: { family: "inet", table: "mvm", name: "names", handle: 4, timeout: 3600, elem: ["x"] },
};

function rule(comment: string, expr: unknown, handle = 9): object {
  return { rule: { family: "inet", table: "mvm", chain: "input", handle, comment, expr } };
}

function listing(...entries: readonly object[]): ReturnType<typeof parseListing> {
  return parseListing(JSON.stringify({ nftables: [{ metainfo: { version: "1" } }, ...entries] }));
}

const whole = listing(table, chain, fixed, filled, rule("one", ["1"]), rule("two", ["2"]));

test("handles, the order of elements and what a filled set holds are no difference", () => {
  const other = listing(
    table,
    chain,
    { set: { ...fixed.set, handle: 77, elem: ["b", "a"] } },
    { set: { ...filled.set, elem: [] } },
    rule("one", ["1"], 70),
    rule("two", ["2"], 71),
  );
  assert.deepEqual(compareListings(whole, other), []);
});

test("a missing table is named once, not with everything in it", () => {
  assert.deepEqual(compareListings(whole, listing()), [
    { name: "table inet mvm", problem: "is not there" },
  ]);
});

test("each rule that is missing, changed, foreign or out of order is named", () => {
  const problems = (...entries: readonly object[]): string[] =>
    compareListings(whole, listing(table, chain, fixed, filled, ...entries)).map(
      ({ name, problem }) => `${name}: ${problem}`,
    );
  const where = "table inet mvm, chain input";
  assert.deepEqual(problems(rule("one", ["1"])), [
    `${where}: the rule "two" is not there or is not as it should be`,
  ]);
  assert.deepEqual(problems(rule("one", ["1"]), rule("two", ["3"])), [
    `${where}: the rule "two" is not there or is not as it should be`,
    `${where}: a rule is not mvm's: two`,
  ]);
  assert.deepEqual(problems(rule("one", ["1"]), rule("one", ["1"]), rule("two", ["2"])), [
    `${where}: a rule is not mvm's: one`,
  ]);
  assert.deepEqual(problems(rule("two", ["2"]), rule("one", ["1"])), [
    `${where}: its rules are in another order`,
  ]);
});

test("a set with another element, a chain with another policy and a foreign chain are named", () => {
  const found = listing(
    table,
    { chain: { ...chain.chain, policy: "drop" } },
    { chain: { ...chain.chain, name: "other" } },
    { set: { ...fixed.set, elem: ["a"] } },
    filled,
    rule("one", ["1"]),
    rule("two", ["2"]),
  );
  assert.deepEqual(compareListings(whole, found), [
    { name: "table inet mvm, chain input", problem: "is not as it should be" },
    { name: "table inet mvm, set closed", problem: "is not as it should be" },
    { name: "table inet mvm, chain other", problem: "is not mvm's" },
  ]);
});

test("what is replaced goes, but for a wanted set that is filled while packets flow", () => {
  assert.equal(
    renderRemoval(whole, whole),
    "flush table inet mvm\ndelete set inet mvm closed\ndelete chain inet mvm input\n",
  );
  assert.match(renderRemoval(listing(table), whole), /delete set inet mvm names/);
  assert.equal(renderRemoval(whole, listing()), "");
});

test("a table that holds something else, or is to go, goes whole", () => {
  const counter = { counter: { family: "inet", table: "mvm", name: "c" } };
  assert.equal(renderRemoval(whole, listing(table, counter)), "delete table inet mvm\n");
  assert.equal(renderRemoval(listing(), whole), "delete table inet mvm\n");
});
