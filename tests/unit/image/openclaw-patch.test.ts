import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { patchOpenclaw } from "../../../src/host/payloads/openclaw-patch.ts";

const files: Readonly<Record<string, string>> = {
  "openclaw-state-lease-heartbeat-shared-Ab1.mjs":
    "const LEASE_HEARTBEAT_START_TIMEOUT_MS = 5e3;\n",
  "openclaw-state-lease-heartbeat-Cd2.mjs": "const WORKER_RESPONSE_TIMEOUT_MS = 1e3;\n",
  "worker/worker.mjs": "a=1,LEASE_HEARTBEAT_START_TIMEOUT_MS=5e3,b='\u00e9'",
  "worker/sqlite-store.worker.mjs": "LEASE_HEARTBEAT_START_TIMEOUT_MS=5e3",
  "state/openclaw-state-lease-heartbeat.worker.js": "const LEASE_HEARTBEAT_START_TIMEOUT_MS = 5e3;",
};

describe("the patches of OpenClaw", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-patch-"));
    await mkdir(join(folder, "dist", "worker"), { recursive: true });
    await mkdir(join(folder, "dist", "state"));
    for (const [name, text] of Object.entries(files)) {
      await writeFile(join(folder, "dist", name), text);
    }
  });
  afterEach(() => rm(folder, { recursive: true }));

  it("lengthen the two waits and change nothing else", async () => {
    await patchOpenclaw(folder);
    const read = (name: string): Promise<string> => readFile(join(folder, "dist", name), "utf8");
    assert.equal(
      await read("worker/worker.mjs"),
      "a=1,LEASE_HEARTBEAT_START_TIMEOUT_MS=6e4,b='\u00e9'",
    );
    assert.equal(
      await read("openclaw-state-lease-heartbeat-Cd2.mjs"),
      "const WORKER_RESPONSE_TIMEOUT_MS = 15e3;\n",
    );
  });

  it("are refused by a version they were not made for", async () => {
    await writeFile(join(folder, "dist", "worker", "worker.mjs"), "other");
    await assert.rejects(patchOpenclaw(folder), /worker\/worker\.mjs/);
    await rm(join(folder, "dist", "worker", "worker.mjs"));
    await assert.rejects(patchOpenclaw(folder), /patches are for/);
  });
});
