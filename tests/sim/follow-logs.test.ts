import assert from "node:assert/strict";
import { test } from "node:test";
import { ConflictError, NotFoundError } from "../../src/domain/errors.ts";
import { parseInstanceId, parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { addressOf } from "../../src/domain/instance.ts";
import type { InstanceAddress } from "../../src/domain/ids.ts";
import { findTemplate } from "../../src/domain/templates.ts";
import type { NodeContext } from "../../src/node/context.ts";
import { deployTemplate } from "../../src/node/deploy.ts";
import { followLogs, linesAfter } from "../../src/node/follow-logs.ts";
import { operatorStop } from "../../src/node/instances.ts";
import { FakeHost } from "../fakes/fake-host.ts";

const tenant = parseTenantId("demo");
const request = { console: true, lines: 2 };

async function running(): Promise<{ host: FakeHost; address: InstanceAddress }> {
  const host = new FakeHost();
  await deployTemplate(host.context(), { tenant, template: findTemplate("openclaw") });
  const instance = host
    .records()
    .tenants.flatMap(({ instances }) => instances)
    .find(({ state }) => state.status === "running");
  assert.ok(instance);
  return { host, address: addressOf(instance) };
}

/** A process that reads these states of a console, one after the other; `atEnd` is called once they are used up. */
function reading(
  host: FakeHost,
  states: readonly (readonly string[])[],
  atEnd: () => Promise<void> | void,
  signal?: AbortSignal,
): NodeContext {
  const left = [...states];
  return {
    ...host.context(signal),
    logs: {
      console: async () => {
        const next = left.length > 1 ? left.shift() : left[0];
        if (left.length === 1 && next !== left[0]) await atEnd();
        return [...(next ?? [])];
      },
    },
  };
}

test("logs --follow shows the last lines and then what comes, until the instance ends", async () => {
  const { host, address } = await running();
  const shown: string[] = [];
  const states = [
    ["one", "two", "three"],
    ["one", "two", "three", "four"],
    ["one", "two", "three", "four", "last words"],
  ];
  const context = reading(host, states, () => operatorStop(host.context(), address));
  await followLogs(context, address, request, (line) => shown.push(line));
  assert.deepEqual(shown, ["two", "three", "four", "last words"]);
});

test("logs --follow ends when the operator leaves", async () => {
  const { host, address } = await running();
  const shown: string[] = [];
  const leaving = new AbortController();
  const states = [["one"], ["one", "two"], ["one", "two"]];
  const context = reading(host, states, () => leaving.abort(new Error("left")), leaving.signal);
  await followLogs(context, address, request, (line) => shown.push(line));
  assert.deepEqual(shown, ["one", "two"]);
});

test("logs --follow goes on with a log that was replaced by its own last part", async () => {
  const { host, address } = await running();
  const shown: string[] = [];
  const states = [
    ["a", "b", "c", "d"],
    ["c", "d", "e"],
    ["c", "d", "e", "f"],
  ];
  const context = reading(host, states, () => operatorStop(host.context(), address));
  await followLogs(context, address, request, (line) => shown.push(line));
  assert.deepEqual(shown, ["c", "d", "e", "f"]);
});

test("logs --follow of a service is refused where the instance does not run, and of one that is not there", async () => {
  const { host, address } = await running();
  await operatorStop(host.context(), address);
  const services = { console: false, lines: 5 };
  await assert.rejects(
    followLogs(host.context(), address, services, () => undefined),
    ConflictError,
  );
  const nowhere = { tenant, pool: parsePoolId("workers"), instance: parseInstanceId("i-99999999") };
  await assert.rejects(
    followLogs(host.context(), nowhere, request, () => undefined),
    NotFoundError,
  );
});

for (const { what, seen, next, added } of [
  { what: "nothing new", seen: ["a", "b"], next: ["a", "b"], added: [] },
  { what: "the first lines", seen: [], next: ["a"], added: ["a"] },
  { what: "the same line again", seen: ["a", "a"], next: ["a", "a", "a"], added: ["a"] },
  { what: "a log that lost its beginning", seen: ["a", "b", "c"], next: ["c", "d"], added: ["d"] },
  { what: "a log that began anew", seen: ["a", "b"], next: ["x", "y"], added: ["x", "y"] },
  {
    what: "a line that came before and is no overlap",
    seen: ["a", "b"],
    next: ["x", "b"],
    added: ["x", "b"],
  },
]) {
  test(`between two readings of a log, ${what} is told`, () => {
    assert.deepEqual(linesAfter(seen, next), added);
  });
}
