import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { run } from "@stricli/core";
import { buildCommandLine } from "../../../src/cli/app.ts";
import type { CliContext } from "../../../src/cli/context.ts";
import { Output } from "../../../src/cli/output.ts";
import type { ManifestRequest } from "../../../src/node/manifest.ts";
import type { NodeOperations } from "../../../src/node/operations.ts";
import { noFleet } from "../../builders/no-fleet.ts";

/** `mvm deploy --watch` at work on a manifest, with a node that only notes what it is asked. */
class Watch implements AsyncDisposable {
  readonly tenants: string[] = [];
  readonly #folder: string;
  readonly #interrupt = new AbortController();
  readonly #ended: Promise<void>;
  #said = "";

  private constructor(folder: string, interval: number) {
    this.#folder = folder;
    const node = {
      applyManifest: async ({ manifest }: ManifestRequest) => {
        this.tenants.push(manifest.tenant_id);
        return { changes: [], reconciled: { converged: true, held: [], failures: [] } };
      },
    } as unknown as NodeOperations;
    const sink = {
      write: (text: string | Uint8Array): boolean => {
        this.#said += String(text);
        return true;
      },
    };
    const context: CliContext = {
      process: { stdout: sink, stderr: sink, env: {} },
      stdin: new PassThrough(),
      out: new Output(sink, sink),
      signal: this.#interrupt.signal,
      node: async () => node,
      ...noFleet,
      records: async () => node,
      host: () => Promise.reject(new Error("deploy asks nothing of the host's setup")),
      serveHostd: () => Promise.reject(new Error("no hostd here")),
      exitWith: () => undefined,
      terminal: () => undefined,
    };
    const line = ["deploy", this.#manifest, "--watch", "--interval", String(interval)];
    this.#ended = run(buildCommandLine("0"), line, context);
  }

  static async begin(text: string, interval = 3600): Promise<Watch> {
    const folder = await mkdtemp(join(tmpdir(), "mvm-watch-"));
    await writeFile(join(folder, "deploy.toml"), text);
    return new Watch(folder, interval);
  }

  get #manifest(): string {
    return join(this.#folder, "deploy.toml");
  }

  async write(text: string): Promise<void> {
    await writeFile(this.#manifest, text);
  }

  /** Waits until something holds; the test's own time limit ends it. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await sleep(20);
  }

  said(pattern: RegExp): boolean {
    return pattern.test(this.#said);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#interrupt.abort(new Error("interrupted"));
    await this.#ended;
    await rm(this.#folder, { recursive: true });
  }
}

const limit = { timeout: 20_000 };

test("deploy --watch applies a manifest again when it changes, and not before", limit, async () => {
  await using watch = await Watch.begin('tenant_id = "one"');
  await watch.until(() => watch.tenants.length === 1);
  await sleep(1200);
  assert.deepEqual(watch.tenants, ["one"]);
  await watch.write('tenant_id = "two2"');
  await watch.until(() => watch.tenants.length === 2);
  assert.deepEqual(watch.tenants, ["one", "two2"]);
});

test("deploy --watch applies a manifest again when the interval has passed", limit, async () => {
  await using watch = await Watch.begin('tenant_id = "one"', 1);
  await watch.until(() => watch.tenants.length === 2);
  assert.deepEqual(watch.tenants, ["one", "one"]);
});

test(
  "deploy --watch outlives a manifest that is broken or gone for a while, and says so",
  limit,
  async () => {
    await using watch = await Watch.begin('tenant_id = "one"');
    await watch.until(() => watch.tenants.length === 1);
    await watch.write('tenant_id = "one');
    await watch.until(() => watch.said(/cannot be used:[^]*line 1[^]*still watching/));
    await watch.write('tenant_id = "three"');
    await watch.until(() => watch.tenants.length === 2);
    assert.deepEqual(watch.tenants, ["one", "three"]);
  },
);

test("deploy --watch ends at once when it is interrupted", limit, async () => {
  const watch = await Watch.begin('tenant_id = "one"');
  await watch.until(() => watch.tenants.length === 1);
  const startMs = performance.now();
  await watch[Symbol.asyncDispose]();
  assert.ok(performance.now() - startMs < 400);
});
