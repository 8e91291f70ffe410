import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { run } from "@stricli/core";
import { buildCommandLine } from "../../../src/cli/app.ts";
import type { CliContext } from "../../../src/cli/context.ts";
import { Output } from "../../../src/cli/output.ts";
import type { Dashboard } from "../../../src/node/dashboard.ts";
import type { NodeOperations } from "../../../src/node/operations.ts";
import { noFleet } from "../../builders/no-fleet.ts";

test(
  "connect --watch off a terminal shows the dashboard again only when it changed, until it is interrupted",
  {
    timeout: 20_000,
  },
  async () => {
    const leaving = new AbortController();
    let asked = 0;
    const node = {
      corrupt: async () => [],
      dashboard: async (): Promise<Dashboard> => {
        asked += 1;
        if (asked === 3) leaving.abort(new Error("interrupted"));
        const tenant = { tenant_id: "demo", gateway: asked < 3 ? "10.240.1.1" : "10.240.2.1" };
        return {
          tenant,
          pools: [],
          instances: [],
          urls: [],
          generated_secrets: [],
          secrets_file: "",
        } as unknown as Dashboard;
      },
    } as unknown as NodeOperations;
    let shown = "";
    const sink = {
      write: (text: string | Uint8Array): boolean => {
        shown += String(text);
        return true;
      },
    };
    const context: CliContext = {
      process: { stdout: sink, stderr: sink, env: {} },
      stdin: new PassThrough(),
      out: new Output(sink, sink),
      signal: leaving.signal,
      node: async () => node,
      ...noFleet,
      records: async () => node,
      host: () => Promise.reject(new Error("connect asks nothing of the host's setup")),
      serveHostd: () => Promise.reject(new Error("no hostd here")),
      exitWith: () => undefined,
      terminal: () => undefined,
    };
    await run(buildCommandLine("0"), ["connect", "demo", "--watch"], context);
    assert.equal(asked, 3);
    assert.equal(shown.match(/Deployment: demo/g)?.length, 2);
    assert.ok(shown.indexOf("10.240.1.1") < shown.indexOf("10.240.2.1"));
  },
);
