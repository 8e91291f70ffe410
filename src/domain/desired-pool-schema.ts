import * as z from "zod/mini";
import type { DesiredPool, DesiredRoute, HealthCheck } from "./desired-pool.ts";
import { egressSchema } from "./egress-schema.ts";
import { openEgress } from "./egress.ts";
import { healthPath } from "./guest-service.ts";
import { parsePoolId } from "./ids.ts";
import { parsedText } from "./parsed-text.ts";
import { maxDesiredCount, parseProfile } from "./pool-limits.ts";
import { defaultRuntimePolicy, instanceResourcesSchema, updateStrategySchema } from "./pool.ts";
import { parseRole } from "./roles.ts";
import { secretName } from "./secret-scopes.ts";
import { secretScopesSchema } from "./secret-scopes-schema.ts";

// Apart from the types, so that who only knows the names loads no schemas.

const maxEntries = 64;
const shortText = z.string().check(z.minLength(1), z.maxLength(64));
const count = z.int().check(z.gte(0), z.lte(maxDesiredCount));
const seconds = z.int().check(z.gte(0), z.lte(86_400));
const someSeconds = z.int().check(z.gte(1), z.lte(86_400));
const port = z.int().check(z.gte(1), z.lte(65_535));
const flag = (value: boolean): z.ZodMiniDefault<z.ZodMiniBoolean> => z._default(z.boolean(), value);
const command = z
  .array(z.string().check(z.minLength(1), z.maxLength(8192)))
  .check(z.minLength(1), z.maxLength(256));

const route: z.ZodMiniType<DesiredRoute> = z.strictObject({
  name: shortText,
  match: z
    .strictObject({
      port: z.optional(port),
      host: z.optional(
        z.string().check(z.regex(/^(?:\*\.)?[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/)),
      ),
      path_prefix: z.optional(z.string().check(z.regex(healthPath))),
      source_cidr: z.optional(z.cidrv4()),
    })
    .check(
      z.refine((match) => Object.values(match).some((value) => value !== undefined), {
        error: "a route matches by at least one of port, host, path_prefix and source_cidr",
      }),
    ),
  target: z.strictObject({
    pool_id: parsedText(parsePoolId),
    instance_selector: z._default(
      z.union([
        z.enum(["any", "least_connections"]),
        z.strictObject({ by_ip: z.ipv4() }),
        z.strictObject({ sticky: z.enum(["cookie", "source", "path_segment"]) }),
      ]),
      "any",
    ),
    target_port: port,
  }),
});

const healthCheck: z.ZodMiniType<HealthCheck> = z
  .strictObject({
    http: z.optional(
      z.strictObject({
        port,
        path: z.string().check(z.regex(healthPath)),
        expect: z._default(z.string().check(z.maxLength(256)), ""),
      }),
    ),
    tcp: z.optional(z.strictObject({ port })),
    exec: z.optional(z.strictObject({ command })),
    interval_seconds: z._default(someSeconds, 10),
    timeout_seconds: z._default(someSeconds, 5),
    start_timeout_seconds: z._default(someSeconds, 300),
  })
  .check(
    z.refine(
      ({ http, tcp, exec }) => [http, tcp, exec].filter((way) => way !== undefined).length === 1,
      { error: "a health check has exactly one of http, tcp and exec" },
    ),
  );

/** A pool of a desired-state document. */
export const desiredPoolSchema: z.ZodMiniType<DesiredPool> = z.lazy(() =>
  z.strictObject({
    pool_id: parsedText(parsePoolId),
    flake_ref: z.string().check(z.minLength(1), z.maxLength(2048)),
    profile: parsedText(parseProfile),
    role: z._default(parsedText(parseRole), "worker"),
    instance_resources: instanceResourcesSchema,
    desired_counts: z.strictObject({ running: count, warm: count, sleeping: count }),
    runtime_policy: z.prefault(
      z.strictObject({
        min_running_seconds: z._default(seconds, defaultRuntimePolicy.min_running_seconds),
        min_warm_seconds: z._default(seconds, defaultRuntimePolicy.min_warm_seconds),
        drain_timeout_seconds: z._default(seconds, defaultRuntimePolicy.drain_timeout_seconds),
        graceful_shutdown_seconds: z._default(
          seconds,
          defaultRuntimePolicy.graceful_shutdown_seconds,
        ),
      }),
      {},
    ),
    sleep_policy: z.prefault(
      z.strictObject({
        enabled: flag(false),
        warm_after_seconds: z._default(someSeconds, 300),
        sleep_after_seconds: z._default(someSeconds, 900),
        min_running: z._default(count, 0),
      }),
      {},
    ),
    pinned: flag(false),
    critical: flag(false),
    seccomp_policy: z.optional(z.enum(["baseline", "strict"])),
    snapshot_compression: z.optional(z.enum(["none", "lz4", "zstd"])),
    data_encryption: z.optional(z.enum(["luks", "none"])),
    egress: z._default(egressSchema, openEgress),
    ingress: z._default(
      z
        .array(
          z.strictObject({
            host_port: port,
            gateway_port: port,
            certificate_secret: z.optional(z.string().check(z.regex(secretName))),
          }),
        )
        .check(z.maxLength(maxEntries)),
      [],
    ),
    routing_table: z.optional(
      z.strictObject({ routes: z.array(route).check(z.maxLength(maxEntries)) }),
    ),
    integrations: z._default(
      z
        .array(
          z.strictObject({
            name: z.string().check(z.regex(/^[a-z][a-z0-9-]{0,31}$/)),
            checkpoint_cmd: z.optional(command),
            restore_cmd: z.optional(command),
            critical: flag(false),
            exclusive: flag(true),
          }),
        )
        .check(z.maxLength(maxEntries)),
      [],
    ),
    secret_scopes: z._default(secretScopesSchema, []),
    health_check: z.optional(healthCheck),
    update_strategy: z._default(updateStrategySchema, { max_unavailable: 1, rollback: true }),
  }),
);
