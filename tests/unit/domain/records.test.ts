import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ZodMiniType } from "zod/mini";
import { type Operation, instanceForm, resourcesOf, vmmOf } from "../../../src/domain/instance.ts";
import { instanceStatuses } from "../../../src/domain/lifecycle.ts";
import { keptRevisions, poolForm } from "../../../src/domain/pool.ts";
import { parseRecord } from "../../../src/domain/record-form.ts";
import { parseRevision, revisionForm } from "../../../src/domain/revision.ts";
import { tenantForm } from "../../../src/domain/tenant.ts";
import {
  aPool,
  aRevision,
  aTenant,
  anInstance,
  imageHash,
  secondsAgo,
} from "../../builders/records.ts";

const kinds: readonly { name: string; schema: ZodMiniType; record: object }[] = [
  { name: "tenant", schema: tenantForm.schema, record: aTenant({ template: "openclaw" }) },
  { name: "pool", schema: poolForm.schema, record: aPool("web", { running: 2, warm: 1 }) },
  { name: "instance", schema: instanceForm.schema, record: anInstance("web", 2, "running") },
  {
    name: "revision",
    schema: revisionForm.schema,
    record: aRevision(imageHash),
  },
];

/** What a state file holds and is read back as. */
function stored(record: object): Record<string, unknown> {
  return JSON.parse(JSON.stringify(record)) as Record<string, unknown>;
}

for (const { name, schema, record } of kinds) {
  describe(`the record of a ${name}`, () => {
    test("is read back as it was written", () => {
      assert.deepEqual(schema.parse(stored(record)), record);
    });

    test("of an unknown newer schema version is refused", () => {
      for (const schema_version of [0, 9, 99, "1", null]) {
        assert.equal(schema.safeParse({ ...stored(record), schema_version }).success, false);
      }
    });

    test("with a field that is not known is refused", () => {
      assert.equal(schema.safeParse({ ...stored(record), surprise: 1 }).success, false);
    });

    test("without any one of its fields is refused", () => {
      for (const field of Object.keys(record)) {
        const { [field]: _, ...without } = stored(record);
        assert.equal(schema.safeParse(without).success, false, field);
      }
    });
  });
}

describe("the record of a revision", () => {
  test("of an older mvm is read, and says nothing of what was not written down then", () => {
    const { inputs: _, package: __, ...old } = aRevision(imageHash);
    const text = JSON.stringify({ ...old, schema_version: 1 });
    assert.deepEqual(parseRevision(text), aRevision(imageHash, { inputs: [], package: "" }));
  });

  test("that cannot be read is none", () => {
    for (const text of ["", "{", "null", "{}", '{"schema_version":9}']) {
      assert.equal(parseRevision(text), undefined, text);
    }
  });
});

describe("the record of an instance", () => {
  for (const status of instanceStatuses) {
    test(`that is ${status} is read back as it was written`, () => {
      const record = anInstance("web", 7, status, { overrideUntil: secondsAgo(-60) });
      assert.deepEqual(instanceForm.schema.parse(stored(record)), record);
    });

    test(`that is ${status} names a VMM only when it should have one`, () => {
      const hasVmm = status === "running" || status === "warm";
      assert.equal(vmmOf(anInstance("web", 7, status)) !== undefined, hasVmm);
    });
  }

  for (const kind of ["start", "stop", "warm", "resume", "destroy"] as const) {
    test(`keeps a ${kind} in progress`, () => {
      const operation: Operation = { kind, started_at: secondsAgo(5), step: "vmm" };
      const record = anInstance("web", 7, "ready", { operation });
      assert.deepEqual(instanceForm.schema.parse(stored(record)), record);
    });
  }

  test("that runs without a VMM, or fails without a cause, cannot be written down", () => {
    const base = stored(anInstance("web", 2, "ready"));
    const since = secondsAgo(1);
    for (const state of [
      { status: "running", since },
      { status: "warm", since },
      { status: "failed", since },
      { status: "ready", since },
      { status: "on-fire" },
    ]) {
      assert.equal(instanceForm.schema.safeParse({ ...base, state }).success, false);
    }
  });

  test("has an address offset from 2 to 254", () => {
    const base = stored(anInstance("web", 2, "ready"));
    for (const net_offset of [0, 1, 255, 2.5]) {
      assert.equal(instanceForm.schema.safeParse({ ...base, net_offset }).success, false);
    }
  });
});

describe("the record of a pool", () => {
  const base = stored(aPool("web"));

  test("wants at most 100 of each kind", () => {
    for (const [running, good] of [
      [0, true],
      [100, true],
      [101, false],
      [-1, false],
      [0.5, false],
    ] as const) {
      const desired_counts = { running, warm: 0, sleeping: 0 };
      assert.equal(poolForm.schema.safeParse({ ...base, desired_counts }).success, good);
    }
  });

  test("keeps at most its last five image revisions, each a hash", () => {
    const revisions = Array.from({ length: keptRevisions + 1 }, () => imageHash);
    assert.equal(poolForm.schema.safeParse({ ...base, revisions }).success, false);
    assert.equal(
      poolForm.schema.safeParse({ ...base, revisions: revisions.slice(1) }).success,
      true,
    );
    assert.equal(poolForm.schema.safeParse({ ...base, revisions: ["../../etc"] }).success, false);
  });

  test("has at least one vCPU each", () => {
    const instance_resources = { vcpus: 0, mem_mib: 256, data_disk_mib: 0 };
    assert.equal(poolForm.schema.safeParse({ ...base, instance_resources }).success, false);
  });

  test("cannot take its id or role from a path or an unknown word", () => {
    // The parsers of ids throw; a store that reads it must be ready for that too.
    assert.throws(() => poolForm.schema.parse({ ...base, pool_id: "../x" }));
    assert.throws(() => poolForm.schema.parse({ ...base, role: "boss" }));
  });
});

/** Records as version 1 wrote them, field for field. */
const versionOne = {
  tenant: {
    schema_version: 1,
    tenant_id: "acme",
    managed_by: "local",
    net_id: 1,
    quotas: aTenant().quotas,
    created_at: secondsAgo(60),
    template: null,
    destroying: false,
  },
  pool: {
    schema_version: 1,
    tenant_id: "acme",
    pool_id: "web",
    managed_by: "local",
    role: "worker",
    flake_ref: "builtin:hello",
    profile: "minimal",
    instance_resources: { vcpus: 1, mem_mib: 256, data_disk_mib: 0 },
    desired_counts: { running: 1, warm: 0, sleeping: 0 },
    runtime_policy: aPool("web").runtime_policy,
    start_timeout_seconds: 300,
    gateway_routes: [],
    created_at: secondsAgo(60),
    revisions: [imageHash],
  },
  instance: {
    schema_version: 1,
    tenant_id: "acme",
    pool_id: "web",
    instance_id: "i-00000002",
    net_offset: 2,
    created_at: secondsAgo(60),
    state: { status: "stopped" },
    operation: null,
    failures: 0,
    spare: false,
    manual_override_until: null,
  },
};

describe("a record of schema version 1", () => {
  test("of a tenant becomes one of today that is not pinned", () => {
    const { schema_version: _, ...rest } = versionOne.tenant;
    const added = { schema_version: 2, pinned: false, override_until: null };
    assert.deepEqual(parseRecord(tenantForm, versionOne.tenant), { ...rest, ...added });
  });

  test("of a pool becomes one of today that is neither pinned nor critical", () => {
    const { pinned, critical, override_until, egress, schema_version } = parseRecord(
      poolForm,
      versionOne.pool,
    );
    assert.deepEqual(
      { pinned, critical, override_until, egress, schema_version },
      {
        pinned: false,
        critical: false,
        override_until: null,
        egress: { mode: "open" },
        schema_version: 3,
      },
    );
  });

  test("of an instance becomes one of today that has what its pool gives", () => {
    const made = parseRecord(instanceForm, versionOne.instance);
    const pool = parseRecord(poolForm, versionOne.pool);
    assert.deepEqual(resourcesOf(made, pool), pool.instance_resources);
    assert.equal(made.schema_version, 3);
  });

  test("with a field that version 1 did not know is refused", () => {
    assert.throws(() => parseRecord(tenantForm, { ...versionOne.tenant, surprise: 1 }), /surprise/);
  });
});

test("a record of a newer schema version is refused in words, and one of no version as such", () => {
  assert.throws(
    () => parseRecord(tenantForm, { ...aTenant(), schema_version: 3 }),
    /schema version 3 and this mvm knows 2 at most/,
  );
  assert.throws(() => parseRecord(tenantForm, { ...aTenant(), schema_version: 0 }), /version 0/);
  assert.throws(() => parseRecord(tenantForm, []), /object/);
});
