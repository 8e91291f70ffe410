import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { run } from "@stricli/core";
import { buildCommandLine } from "../../../src/cli/app.ts";
import type { CliContext } from "../../../src/cli/context.ts";
import { Output } from "../../../src/cli/output.ts";
import { parseTenantId } from "../../../src/domain/ids.ts";
import { findTemplate } from "../../../src/domain/templates.ts";
import { deployTemplate } from "../../../src/node/deploy.ts";
import { NodeOperations } from "../../../src/node/operations.ts";
import { FakeHost } from "../../fakes/fake-host.ts";
import { noFleet } from "../../builders/no-fleet.ts";

const tenant = parseTenantId("demo");

async function deployed(): Promise<FakeHost> {
  const host = new FakeHost();
  await deployTemplate(host.context(), { tenant, template: findTemplate("openclaw") });
  return host;
}

/** Runs a command on a host in memory. @returns the lines it printed. */
async function mvm(host: FakeHost, ...line: string[]): Promise<string[]> {
  let shown = "";
  const sink = {
    write: (text: string | Uint8Array): boolean => {
      shown += String(text);
      return true;
    },
  };
  const node = new NodeOperations(host.context());
  const context: CliContext = {
    process: { stdout: sink, stderr: sink, env: {} },
    stdin: new PassThrough(),
    out: new Output(sink, sink),
    signal: new AbortController().signal,
    node: async () => node,
    ...noFleet,
    records: async () => node,
    host: () => Promise.reject(new Error("destroy asks nothing of the host's setup")),
    serveHostd: () => Promise.reject(new Error("no hostd here")),
    exitWith: () => undefined,
    terminal: () => undefined,
  };
  await run(buildCommandLine("0"), line, context);
  return shown.trimEnd().split("\n");
}

for (const { kind, object, own } of [
  { kind: "tenant", object: "demo", own: ["destroy tenant demo"] },
  { kind: "pool", object: "demo/workers", own: ["destroy pool demo/workers"] },
]) {
  test(`a preview of destroying a ${kind} names all that would go, and nothing goes`, async () => {
    const host = await deployed();
    const before = host.records();
    const lines = await mvm(host, kind, "destroy", object, "--dry-run");
    const below = before.tenants
      .flatMap(({ instances }) => instances)
      .map(({ pool_id, instance_id }) => `demo/${pool_id}/${instance_id}`)
      .filter((address) => address.startsWith(`${object}/`));
    assert.ok(below.length > 0);
    for (const address of below) {
      assert.ok(
        lines.some((line) => line.startsWith(`destroy instance ${address} (`)),
        address,
      );
    }
    assert.equal(lines.filter((line) => line.startsWith("destroy instance")).length, below.length);
    for (const line of own) assert.ok(lines.includes(line));
    assert.equal(lines.at(-1), "data disks are kept");
    assert.deepEqual(host.records(), before);
  });
}

test("a preview of destroying an instance with its disk says so", async () => {
  const host = await deployed();
  const [first] = host.records().tenants.flatMap(({ instances }) => instances);
  const id = first?.instance_id ?? "";
  const lines = await mvm(host, "instance", "destroy", id, "--wipe-volumes", "--dry-run");
  assert.equal(lines.length, 2);
  assert.match(lines[0] ?? "", new RegExp(`^destroy instance demo/.*/${id} \\(`));
  assert.equal(lines[1], "data disks are removed too");
});
