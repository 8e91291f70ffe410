import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import * as z from "zod";
import { tenantNetwork, maxNetId, netIdOfSubnet } from "../domain/address-plan.ts";
import { egressSchema } from "../domain/egress-schema.ts";
import { UsageError, describeError, isSystemError } from "../domain/errors.ts";
import { type PoolId, parsePoolId, parseTenantId } from "../domain/ids.ts";
import type { Manifest } from "../domain/manifest.ts";
import { parsedText } from "../domain/parsed-text.ts";
import { maxDesiredCount, parseProfile } from "../domain/pool-limits.ts";
import { instanceResourcesSchema } from "../domain/pool.ts";
import { parseRole } from "../domain/roles.ts";
import { secretScopesSchema } from "../domain/secret-scopes-schema.ts";
import { TomlTextError, parseToml, problemsWithPlaces } from "../domain/toml-text.ts";
import { readSecretsFile } from "./secrets-file.ts";

const maxManifestBytes = 1024 * 1024;
const maxProblems = 20;

const count = z.int().min(0).max(maxDesiredCount).default(0);
const seconds = z.int().min(0).max(86_400).optional();
const quota = z.int().nonnegative().optional();
const port = z.int().min(1).max(65_535);

const poolSchema = z.strictObject({
  pool_id: parsedText(parsePoolId),
  flake_ref: z.string().min(1),
  profile: z._default(parsedText(parseProfile), "minimal"),
  role: z._default(parsedText(parseRole), "worker"),
  instance_resources: instanceResourcesSchema,
  desired_counts: z.strictObject({ running: count, warm: count, sleeping: count }),
  runtime_policy: z
    .strictObject({
      min_running_seconds: seconds,
      min_warm_seconds: seconds,
      drain_timeout_seconds: seconds,
      graceful_shutdown_seconds: seconds,
    })
    .optional(),
  start_timeout_seconds: z.int().min(1).max(86_400).optional(),
  egress: z.optional(egressSchema),
  secret_scopes: z.optional(secretScopesSchema),
  gateway_routes: z
    .array(
      z.strictObject({
        name: z.string().min(1).max(64),
        listen_port: port,
        pool_id: parsedText(parsePoolId),
        target_port: port,
      }),
    )
    .optional(),
  pinned: z.boolean().optional(),
  critical: z.boolean().optional(),
});

const manifestSchema = z.strictObject({
  schema_version: z.literal(1).default(1),
  tenant_id: parsedText(parseTenantId),
  network: z
    .strictObject({
      tenant_net_id: z.int().min(0).max(maxNetId).optional(),
      ipv4_subnet: z.string().optional(),
    })
    .optional(),
  quotas: z
    .strictObject({
      max_vcpus: quota,
      max_mem_mib: quota,
      max_running: quota,
      max_warm: quota,
      max_pools: quota,
      max_instances_per_pool: quota,
      max_disk_gib: quota,
    })
    .optional(),
  pinned: z.boolean().optional(),
  /** A JSON file beside the manifest: values are never in the manifest itself. */
  secrets_file: z.string().min(1).optional(),
  pools: z.array(poolSchema).default([]),
});

export interface ManifestFile {
  readonly manifest: Manifest;
  /** Undefined when the manifest names no file: then the tenant's secrets are left as they are. */
  readonly secrets: Readonly<Record<string, string>> | undefined;
}

/**
 * Reads a deploy manifest and the secrets it names. Its routes may lead to its own pools, and to `otherPools`
 * that come from elsewhere. @throws UsageError that names every problem with its place.
 */
export async function readManifest(
  path: string,
  otherPools: readonly PoolId[] = [],
): Promise<ManifestFile> {
  const text = await readText(path);
  const result = manifestSchema.safeParse(valueOf(path, text));
  if (!result.success) throw unusable(path, problemsWithPlaces(result.error, "the manifest"));
  const { schema_version: _, secrets_file, ...manifest } = result.data;
  const problems = contradictions(manifest, otherPools);
  let secrets: Record<string, string> | undefined;
  if (secrets_file !== undefined) {
    try {
      const file = resolve(dirname(path), secrets_file);
      secrets = await readSecretsFile(file, process.stdin);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      problems.push(`secrets_file: ${describeError(error)}`);
    }
  }
  if (problems.length > 0) throw unusable(path, problems);
  return { manifest, secrets };
}

async function readText(path: string): Promise<string> {
  try {
    const text = await readFile(path, "utf8");
    if (text.length > maxManifestBytes) throw new UsageError(`${path} is longer than 1 MiB`);
    return text;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new UsageError(`${path} cannot be read`, { cause: error });
  }
}

function valueOf(path: string, text: string): unknown {
  try {
    return parseToml(text);
  } catch (error) {
    if (!(error instanceof TomlTextError)) throw error;
    throw unusable(path, [error.message]);
  }
}

/** What each field allows and the fields together do not. */
function contradictions({ network, pools }: Manifest, otherPools: readonly PoolId[]): string[] {
  const problems: string[] = [];
  const ids = pools.map(({ pool_id }) => pool_id);
  for (const [index, pool] of pools.entries()) {
    const place = `pools[${index}]`;
    if (ids.indexOf(pool.pool_id) < index) {
      problems.push(`${place}.pool_id: ${pool.pool_id} is there twice`);
    }
    const routes = pool.gateway_routes ?? [];
    if (routes.length > 0 && pool.role !== "gateway") {
      problems.push(`${place}.gateway_routes: only a pool of the role gateway has routes`);
    }
    for (const [number, route] of routes.entries()) {
      if (ids.includes(route.pool_id) || otherPools.includes(route.pool_id)) continue;
      problems.push(
        `${place}.gateway_routes[${number}].pool_id: there is no pool ${route.pool_id}`,
      );
    }
  }
  const { tenant_net_id: netId, ipv4_subnet: subnet } = network ?? {};
  if (subnet !== undefined) {
    try {
      const ofSubnet = netIdOfSubnet(subnet);
      if (netId !== undefined && netId !== ofSubnet) {
        problems.push(
          `network: net id ${netId} has subnet ${tenantNetwork(netId).subnet}, not ${subnet}`,
        );
      }
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      problems.push(`network.ipv4_subnet: ${error.message}`);
    }
  }
  return problems;
}

function unusable(path: string, problems: readonly string[]): UsageError {
  const shown = problems.slice(0, maxProblems).map((problem) => `\n  ${problem}`);
  const more = problems.length - shown.length;
  if (more > 0) shown.push(`\n  and ${more} more`);
  return new UsageError(`${path} cannot be used:${shown.join("")}`, {
    hint: "see docs/deploy-manifest.md for what a manifest says",
  });
}
