import { netIdOfSubnet, tenantNetwork } from "./address-plan.ts";
import { UsageError } from "./errors.ts";

type Fields = Readonly<Record<string, unknown>>;

/** A list of a document by its place, each entry with its own. */
interface Entry {
  readonly place: string;
  readonly fields: Fields;
}

/**
 * What each field of a document allows and the fields together do not. It reads the document as it was
 * written, whatever else is wrong with it, so that all problems can be told at once.
 */
export function contradictions(document: unknown): string[] {
  const tenants = entries(fieldsOf(document), "tenants", "");
  return [
    ...twice(tenants, "tenant_id", "tenant"),
    ...networkProblems(tenants),
    ...hostPortProblems(tenants),
    ...tenants.flatMap((tenant) => poolProblems(tenant)),
  ];
}

function networkProblems(tenants: readonly Entry[]): string[] {
  const problems: string[] = [];
  const owners = new Map<number, string>();
  for (const { place, fields } of tenants) {
    const { tenant_net_id: netId, ipv4_subnet: subnet } = fieldsOf(fields["network"]);
    const ofSubnet = typeof subnet === "string" ? readSubnet(subnet) : undefined;
    if (typeof ofSubnet === "string") problems.push(`${place}.network.ipv4_subnet: ${ofSubnet}`);
    if (typeof netId !== "number" || !Number.isInteger(netId)) continue;
    if (typeof ofSubnet === "number" && ofSubnet !== netId && netId >= 0 && netId <= 4095) {
      const own = tenantNetwork(netId).subnet;
      problems.push(`${place}.network: net id ${netId} has subnet ${own}, not ${String(subnet)}`);
    }
    const name = String(fields["tenant_id"]);
    const other = owners.get(netId);
    if (other !== undefined) {
      problems.push(`${place}.network: net id ${netId} is that of tenant ${other} already`);
    } else owners.set(netId, name);
  }
  return problems;
}

/** The net id of a subnet, or what is wrong with it. */
function readSubnet(subnet: string): number | string {
  try {
    return netIdOfSubnet(subnet);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return error.message;
  }
}

function hostPortProblems(tenants: readonly Entry[]): string[] {
  const problems: string[] = [];
  const owners = new Map<unknown, string>();
  for (const tenant of tenants) {
    for (const pool of entries(tenant.fields, "pools", tenant.place)) {
      for (const { place, fields } of entries(pool.fields, "ingress", pool.place)) {
        const port = fields["host_port"];
        const other = owners.get(port);
        if (other === undefined) owners.set(port, place);
        else problems.push(`${place}.host_port: ${String(port)} is taken by ${other}`);
      }
    }
  }
  return problems;
}

function poolProblems(tenant: Entry): string[] {
  const pools = entries(tenant.fields, "pools", tenant.place);
  const ids = new Set(pools.map(({ fields }) => fields["pool_id"]));
  return [
    ...twice(pools, "pool_id", "pool"),
    ...pools.flatMap((pool) => {
      const problems: string[] = [];
      const { place, fields } = pool;
      const routes = entries(fieldsOf(fields["routing_table"]), "routes", `${place}.routing_table`);
      const isGateway = fields["role"] === "gateway";
      for (const name of ["ingress", "routing_table"]) {
        const value = fields[name];
        const isEmpty = value === undefined || (Array.isArray(value) && value.length === 0);
        if (!isGateway && !isEmpty) {
          problems.push(`${place}.${name}: only a pool of the role gateway has it`);
        }
      }
      for (const route of routes) {
        const { pool_id: target } = fieldsOf(route.fields["target"]);
        if (typeof target === "string" && !ids.has(target)) {
          problems.push(`${route.place}.target.pool_id: there is no pool ${target}`);
        }
      }
      return [
        ...problems,
        ...twice(routes, "name", "route"),
        ...sameMatches(routes),
        ...twice(entries(fields, "integrations", place), "name", "integration"),
      ];
    }),
  ];
}

/** Two routes that would take the same connections leave to chance which one does. */
function sameMatches(routes: readonly Entry[]): string[] {
  const problems: string[] = [];
  const seen = new Map<string, string>();
  for (const { place, fields } of routes) {
    const match = Object.entries(fieldsOf(fields["match"])).toSorted(([a], [b]) =>
      a < b ? -1 : 1,
    );
    const key = JSON.stringify(match);
    const other = seen.get(key);
    const name = String(fields["name"]);
    if (other === undefined) seen.set(key, name);
    else problems.push(`${place}.match: routes ${other} and ${name} match the same connections`);
  }
  return problems;
}

function twice(list: readonly Entry[], field: string, what: string): string[] {
  const seen = new Set<string>();
  return list.flatMap(({ place, fields }) => {
    const id = fields[field];
    if (typeof id !== "string") return [];
    if (seen.has(id)) return [`${place}.${field}: ${what} ${id} is there twice`];
    seen.add(id);
    return [];
  });
}

function entries(fields: Fields, name: string, place: string): Entry[] {
  const list = fields[name];
  if (!Array.isArray(list)) return [];
  const prefix = place === "" ? name : `${place}.${name}`;
  return list.map((value: unknown, index) => ({
    place: `${prefix}[${index}]`,
    fields: fieldsOf(value),
  }));
}

function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Fields)
    : {};
}
