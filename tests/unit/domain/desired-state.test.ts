import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { maxDocumentBytes } from "../../../src/domain/desired-state.ts";
import {
  DocumentError,
  desiredStateJsonSchema,
  parseDesiredState,
} from "../../../src/domain/desired-state-schema.ts";
import {
  type WrittenDocument,
  type WrittenPool,
  type WrittenTenant,
  bytesOf,
  guide,
  guideDocument,
  writtenDocument,
  writtenPool,
  writtenTenant,
} from "../../builders/documents.ts";

/** What is wrong with a document, each problem with its place. */
function problemsOf(document: unknown): readonly string[] {
  const bytes = document instanceof Uint8Array ? document : bytesOf(document);
  try {
    parseDesiredState(bytes);
    return [];
  } catch (error) {
    assert.ok(error instanceof DocumentError);
    assert.equal(error.code, "usage");
    return error.problems;
  }
}

function tenantOf(document: WrittenDocument): WrittenTenant {
  const [tenant] = document.tenants;
  assert.ok(tenant);
  return tenant;
}

function poolOf(document: WrittenDocument, index = 0): WrittenPool {
  const pool = tenantOf(document).pools[index];
  assert.ok(pool);
  return pool;
}

test("the onboarding guide's document is valid as it stands", () => {
  const { tenants, prune_unknown_tenants, node_id } = parseDesiredState(guideDocument);
  assert.equal(node_id, "local");
  assert.equal(prune_unknown_tenants, false);
  assert.deepEqual(
    tenants[0]?.pools.map(({ pool_id, role, desired_counts }) => [pool_id, role, desired_counts]),
    [
      ["gateways", "gateway", { running: 1, warm: 0, sleeping: 0 }],
      ["workers", "worker", { running: 2, warm: 1, sleeping: 0 }],
    ],
  );
});

test("what a document leaves out has its default", () => {
  const document = writtenDocument([writtenTenant("acme", 3, [writtenPool("web")])]);
  const [tenant] = parseDesiredState(bytesOf(document)).tenants;
  assert.equal(tenant?.pinned, false);
  const [pool] = tenant.pools;
  assert.deepEqual(pool, {
    ...writtenPool("web"),
    role: "worker",
    runtime_policy: {
      min_running_seconds: 60,
      min_warm_seconds: 30,
      drain_timeout_seconds: 30,
      graceful_shutdown_seconds: 15,
    },
    sleep_policy: {
      enabled: false,
      warm_after_seconds: 300,
      sleep_after_seconds: 900,
      min_running: 0,
    },
    pinned: false,
    critical: false,
    egress: { mode: "open" },
    ingress: [],
    integrations: [],
    secret_scopes: [],
    update_strategy: { max_unavailable: 1, rollback: true },
  });
});

test("every optional field of a pool can be given", () => {
  const full = writtenPool("gateways", {
    role: "gateway",
    runtime_policy: { min_running_seconds: 5 },
    sleep_policy: { enabled: true, min_running: 1 },
    pinned: true,
    critical: true,
    seccomp_policy: "strict",
    snapshot_compression: "zstd",
    data_encryption: "luks",
    egress: { mode: "allow", cidrs: ["192.0.2.0/24"], domains: ["example.com"], ports: [443] },
    ingress: [{ host_port: 443, gateway_port: 8443, certificate_secret: "TLS" }],
    routing_table: {
      routes: [
        {
          name: "a",
          match: { port: 80, host: "*.example.com", path_prefix: "/a", source_cidr: "10.0.0.0/8" },
          target: { pool_id: "gateways", instance_selector: { sticky: "cookie" }, target_port: 80 },
        },
      ],
    },
    integrations: [{ name: "telegram", checkpoint_cmd: ["save"], critical: true }],
    secret_scopes: [{ integration: "telegram", keys: ["TELEGRAM_BOT_TOKEN"] }],
    health_check: { http: { port: 80, path: "/", expect: "ok" }, interval_seconds: 3 },
    update_strategy: { max_unavailable: 2, health_timeout_seconds: 60, rollback: false },
  });
  const document = writtenDocument([
    { ...writtenTenant("acme", 3, [full]), secrets_hash: "ab".repeat(32) },
  ]);
  assert.deepEqual(problemsOf(document), []);
});

test("all problems are told at once, each with its place", () => {
  const document = guide();
  document["colour"] = "blue";
  tenantOf(document)["pools_"] = [];
  poolOf(document)["desired_counts"] = { running: 101, warm: -1, sleeping: 0 };
  poolOf(document)["role"] = "king";
  poolOf(document, 1)["pool_id"] = "gateways";
  poolOf(document, 1)["egress"] = { mode: "allow" };
  const problems = problemsOf(document);
  for (const expected of [
    /^colour: there is no such field$/,
    /^tenants\[0\]\.pools_: there is no such field$/,
    /^tenants\[0\]\.pools\[0\]\.desired_counts\.running: .*100/,
    /^tenants\[0\]\.pools\[0\]\.desired_counts\.warm: .*0/,
    /^tenants\[0\]\.pools\[0\]\.role: "king" is not a role$/,
    /^tenants\[0\]\.pools\[1\]\.pool_id: pool gateways is there twice$/,
    /^tenants\[0\]\.pools\[1\]\.egress: egress allow names neither/,
  ]) {
    assert.ok(
      problems.some((problem) => expected.test(problem)),
      `${String(expected)} in:\n${problems.join("\n")}`,
    );
  }
  assert.equal(problems.length, 7, problems.join("\n"));
});

test("unknown fields are refused at every depth, each by its path", () => {
  const objects = (value: unknown, path: string): string[] => {
    if (Array.isArray(value)) return value.flatMap((item, n) => objects(item, `${path}[${n}]`));
    if (typeof value !== "object" || value === null) return [];
    const below = Object.entries(value).flatMap(([key, item]) =>
      objects(item, path === "" ? key : `${path}.${key}`),
    );
    (value as Record<string, unknown>)["extra"] = 1;
    return [path === "" ? "extra" : `${path}.extra`, ...below];
  };
  const document = guide();
  const paths = objects(document, "");
  assert.ok(paths.length >= 8);
  assert.deepEqual(
    [...problemsOf(document)].toSorted(),
    paths.map((path) => `${path}: there is no such field`).toSorted(),
  );
});

describe("a document is refused with", () => {
  const cases: Record<string, [change: (document: WrittenDocument) => void, problem: RegExp]> = {
    "101 instances": [
      (document) => {
        poolOf(document)["desired_counts"] = { running: 101, warm: 0, sleeping: 0 };
      },
      /^tenants\[0\]\.pools\[0\]\.desired_counts\.running: /,
    ],
    "a tenant without network": [
      (document) => {
        delete tenantOf(document)["network"];
      },
      /^tenants\[0\]\.network: /,
    ],
    "a tenant whose subnet is not that of its net id": [
      (document) => {
        tenantOf(document)["network"] = { tenant_net_id: 2, ipv4_subnet: "10.240.1.0/24" };
      },
      /^tenants\[0\]\.network: net id 2 has subnet 10\.240\.2\.0\/24, not 10\.240\.1\.0\/24$/,
    ],
    "a net id beyond 4095": [
      (document) => {
        tenantOf(document)["network"] = { tenant_net_id: 4096, ipv4_subnet: "10.240.1.0/24" };
      },
      /^tenants\[0\]\.network\.tenant_net_id: /,
    ],
    "a subnet outside the cluster range": [
      (document) => {
        tenantOf(document)["network"] = { tenant_net_id: 1, ipv4_subnet: "192.168.1.0/24" };
      },
      /^tenants\[0\]\.network\.ipv4_subnet: .*10\.240\.0\.0\/12$/,
    ],
    "two tenants of one id": [
      (document) => {
        document.tenants.push(writtenTenant("myapp", 2, []));
      },
      /^tenants\[1\]\.tenant_id: tenant myapp is there twice$/,
    ],
    "two tenants of one subnet": [
      (document) => {
        document.tenants.push(writtenTenant("other", 1, []));
      },
      /^tenants\[1\]\.network: net id 1 is that of tenant myapp already$/,
    ],
    "a missing quota": [
      (document) => {
        delete (tenantOf(document)["quotas"] as Record<string, unknown>)["max_warm"];
      },
      /^tenants\[0\]\.quotas\.max_warm: /,
    ],
    "no vCPU": [
      (document) => {
        poolOf(document)["instance_resources"] = { vcpus: 0, mem_mib: 256, data_disk_mib: 0 };
      },
      /^tenants\[0\]\.pools\[0\]\.instance_resources\.vcpus: /,
    ],
    "another schema version": [
      (document) => {
        document["schema_version"] = 2;
      },
      /^schema_version: /,
    ],
    "a worker with routes": [
      (document) => {
        poolOf(document, 1)["routing_table"] = { routes: [] };
      },
      /^tenants\[0\]\.pools\[1\]\.routing_table: only a pool of the role gateway/,
    ],
    "a route to a pool that is not there": [
      (document) => {
        const target = { pool_id: "ghosts", target_port: 80 };
        poolOf(document)["routing_table"] = { routes: [{ name: "a", match: { port: 1 }, target }] };
      },
      /routing_table\.routes\[0\]\.target\.pool_id: there is no pool ghosts$/,
    ],
    "two routes that match the same": [
      (document) => {
        const target = { pool_id: "workers", target_port: 80 };
        poolOf(document)["routing_table"] = {
          routes: [
            { name: "a", match: { port: 1, host: "x" }, target },
            { name: "b", match: { host: "x", port: 1 }, target },
          ],
        };
      },
      /routes\[1\]\.match: routes a and b match the same connections$/,
    ],
    "one host port for two gateways": [
      (document) => {
        const ingress = [{ host_port: 80, gateway_port: 80 }];
        poolOf(document)["ingress"] = ingress;
        const pools = [writtenPool("g", { role: "gateway", ingress })];
        document.tenants.push(writtenTenant("other", 2, pools));
      },
      /^tenants\[1\]\.pools\[0\]\.ingress\[0\]\.host_port: 80 is taken by tenants\[0\]/,
    ],
    "a health check of two kinds": [
      (document) => {
        poolOf(document)["health_check"] = { tcp: { port: 1 }, exec: { command: ["true"] } };
      },
      /health_check: a health check has exactly one of http, tcp and exec$/,
    ],
    "an update that leaves nothing to be missing": [
      (document) => {
        poolOf(document)["update_strategy"] = { max_unavailable: 0 };
      },
      /update_strategy\.max_unavailable: /,
    ],
  };
  for (const [name, [change, problem]] of Object.entries(cases)) {
    test(name, () => {
      const document = guide();
      change(document);
      const problems = problemsOf(document);
      assert.equal(problems.length, 1, problems.join("\n"));
      assert.match(problems[0] ?? "", problem);
    });
  }

  test("no JSON, or bytes that are no UTF-8", () => {
    assert.match(problemsOf(Buffer.from("{"))[0] ?? "", /not JSON in UTF-8/);
    assert.match(problemsOf(Buffer.from([0x22, 0xff, 0x22]))[0] ?? "", /not JSON in UTF-8/);
  });

  test("more bytes than a document may have", () => {
    assert.match(problemsOf(Buffer.alloc(maxDocumentBytes + 1, 32))[0] ?? "", /more than/);
  });
});

test("a name of a megabyte is not repeated in what is said of it", () => {
  const document = guide();
  document["x".repeat(1_000_000)] = 1;
  assert.throws(
    () => parseDesiredState(bytesOf(document)),
    (error) => error instanceof DocumentError && error.message.length < 1000,
  );
});

test("the published JSON Schema is the one of the code", () => {
  const path = join(import.meta.dirname, "../../../docs/desired-state.schema.json");
  const text = `${JSON.stringify(desiredStateJsonSchema(), undefined, 2)}\n`;
  if (process.env["MVM_UPDATE_GOLDEN"] === "1") writeFileSync(path, text);
  assert.deepEqual(JSON.parse(readFileSync(path, "utf8")), JSON.parse(text));
});
