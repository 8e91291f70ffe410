import * as z from "zod/mini";

/** One port a gateway listens on, and the name and port it passes connections to. */
export interface GatewayRoute {
  readonly name: string;
  readonly listen_port: number;
  /** An IPv4 address, or a name the tenant's DNS server knows, such as `workers.mvm`. */
  readonly target_host: string;
  readonly target_port: number;
}

/** An integration of the pool that has secrets of its own, and its user in the guest. */
export interface Integration {
  readonly name: string;
  readonly uid: number;
}

/** `config.json` of the config drive: what a guest is told of itself. Nothing in it is secret. */
export interface GuestConfig {
  readonly schema_version: 1;
  readonly tenant_id: string;
  readonly pool_id: string;
  readonly instance_id: string;
  readonly role: string;
  readonly guest_ip: string;
  readonly gateway_ip: string;
  readonly resources: {
    readonly vcpus: number;
    readonly mem_mib: number;
    readonly data_disk_mib: number;
  };
  readonly integrations: readonly Integration[];
  readonly gateway_routes: readonly GatewayRoute[];
}

const name = z.string().check(z.minLength(1), z.maxLength(64));
const port = z.int().check(z.gte(1), z.lte(65535));
const count = z.int().check(z.nonnegative());

/** Unknown fields are left out: an image may be older than the node that writes its config. */
export const guestConfigSchema: z.ZodMiniType<GuestConfig> = z.object({
  schema_version: z.literal(1),
  tenant_id: name,
  pool_id: name,
  instance_id: name,
  role: name,
  guest_ip: z.ipv4(),
  gateway_ip: z.ipv4(),
  resources: z.strictObject({ vcpus: count, mem_mib: count, data_disk_mib: count }),
  integrations: z._default(
    z
      .array(
        z.strictObject({
          name: z.string().check(z.regex(/^[a-z][a-z0-9-]{0,31}$/)),
          uid: z.int().check(z.gte(1000), z.lte(65_533)),
        }),
      )
      .check(z.maxLength(16)),
    [],
  ),
  gateway_routes: z
    .array(
      z.strictObject({
        name,
        listen_port: port,
        target_host: z.string().check(z.regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/)),
        target_port: port,
      }),
    )
    .check(z.maxLength(64)),
});
