import { parse, TomlError } from "smol-toml";
import * as z from "zod";
import { UsageError } from "../domain/errors.ts";
import { parseProfile } from "../domain/pool-limits.ts";
import type { Role } from "../domain/roles.ts";

/** What `mvm-profiles.toml` says, beside a flake. */
export interface Profiles {
  readonly payloads?: readonly PayloadInput[] | undefined;
  readonly services?: Services | undefined;
  readonly roles?: Readonly<Record<string, RoleProfile>> | undefined;
  readonly profiles?: Readonly<Record<string, { readonly modules?: Names }>> | undefined;
  readonly modules?: Readonly<Record<string, Module>> | undefined;
}

/** What the host prepared and a flake may have as an input, at `path:/mvm/<name>`. */
export type PayloadInput = (typeof payloadInputs)[number];
export const payloadInputs = ["guest", "openclaw"] as const;

type Names = readonly string[] | undefined;
export type Services = Readonly<Record<string, Service>>;

interface RoleProfile {
  /** The package of this role, looked for before the profile's. */
  readonly package?: string | undefined;
  /** In place of `payloads`. */
  readonly payloads?: readonly PayloadInput[] | undefined;
  /** In place of all of `[services]`. */
  readonly services?: Services | undefined;
  readonly modules?: Names;
}

/** A named addition to an image: a package of the same flake, services, or both. */
export interface Module {
  readonly package?: string | undefined;
  readonly payloads?: readonly PayloadInput[] | undefined;
  readonly services?: Services | undefined;
}

export interface Service {
  readonly command: string | readonly string[];
  readonly user?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly port?: number | undefined;
  readonly health?: { readonly path: string; readonly expect?: string | undefined } | undefined;
  readonly needs?: readonly string[] | undefined;
}

/** A package to look for, and whether it is an image of its own or is laid over the guest base. */
export interface WantedPackage {
  readonly name: string;
  readonly complete: boolean;
}

const serviceName = z.string().regex(/^[a-z0-9][a-z0-9-]{0,39}$/);
const packageName = z.string().regex(/^[\w-]{1,64}$/);
const text = z.string().max(8192);
const service = z.strictObject({
  command: z.union([text.min(1), z.array(text).min(1).max(256)]),
  user: z
    .string()
    .regex(/^[a-z_][a-z0-9_-]{0,31}$/)
    .optional(),
  env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), text).optional(),
  port: z.number().int().min(1).max(65535).optional(),
  health: z
    .strictObject({
      path: z.string().regex(/^\/[\x21-\x7e]{0,255}$/),
      expect: z.string().max(256).optional(),
    })
    .optional(),
  needs: z.array(serviceName).max(32).optional(),
});
const services = z.record(serviceName, service).optional();
const payloads = z.array(z.enum(payloadInputs)).optional();
const modules = z.array(serviceName).max(16).optional();
const profilesSchema: z.ZodType<Profiles> = z.strictObject({
  payloads,
  services,
  roles: z
    .record(
      z.string().regex(/^(?:gateway|builder|worker|capability-[a-z0-9-]{1,42})$/),
      z.strictObject({ package: packageName.optional(), payloads, services, modules }),
    )
    .optional(),
  profiles: z.record(packageName, z.strictObject({ modules })).optional(),
  modules: z
    .record(serviceName, z.strictObject({ package: packageName.optional(), payloads, services }))
    .optional(),
});

/** Parses `mvm-profiles.toml`. @throws UsageError that says where it is wrong. */
export function parseProfiles(toml: string): Profiles {
  let value: unknown;
  try {
    value = parse(toml);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw new UsageError(`mvm-profiles.toml, line ${error.line}: ${error.message.split("\n")[0]}`, {
      cause: error,
    });
  }
  const result = profilesSchema.safeParse(value);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw new UsageError(
      `mvm-profiles.toml: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "not understood"}`,
      { hint: "docs/images.md lists what the file may say" },
    );
  }
  checkModules(result.data);
  return result.data;
}

/** The packages to look for in a flake, best first. @throws UsageError when the profile can be the name of no package. */
export function wantedPackages(profiles: Profiles, role: Role, profile: string): WantedPackage[] {
  parseProfile(profile);
  const own = profiles.roles?.[role]?.package;
  const complete = [`tenant-${role}-${profile}`, `tenant-${profile}`];
  const laidOver = [...(own === undefined ? [] : [own]), profile, "default"];
  return [
    ...complete.map((name) => ({ name, complete: true })),
    ...[...new Set(laidOver)].map((name) => ({ name, complete: false })),
  ];
}

/** The modules of an image by name, in order of names: those of its role and those of its profile. */
export function chosenModules(
  profiles: Profiles,
  role: Role,
  profile: string,
): ReadonlyMap<string, Module> {
  const names = [
    ...(profiles.roles?.[role]?.modules ?? []),
    ...(profiles.profiles?.[profile]?.modules ?? []),
  ];
  return new Map(
    [...new Set(names)].toSorted().map((name) => [name, profiles.modules?.[name] ?? {}]),
  );
}

/** The payloads that a build gets: those of the role or of the flake, and those of its modules. */
export function wantedPayloads(
  profiles: Profiles,
  role: Role,
  profile: string,
): readonly PayloadInput[] {
  const own = profiles.roles?.[role]?.payloads ?? profiles.payloads ?? [];
  const modules = [...chosenModules(profiles, role, profile).values()];
  const wanted = new Set([...own, ...modules.flatMap((module) => module.payloads ?? [])]);
  return payloadInputs.filter((name) => wanted.has(name));
}

/** A module that is named and not there is an error whoever builds, not only for the role that names it. */
function checkModules(profiles: Profiles): void {
  for (const [table, entries] of [
    ["roles", profiles.roles],
    ["profiles", profiles.profiles],
  ] as const) {
    for (const [owner, { modules: names = [] }] of Object.entries(entries ?? {})) {
      const missing = names.find((name) => !Object.hasOwn(profiles.modules ?? {}, name));
      if (missing === undefined) continue;
      throw new UsageError(
        `mvm-profiles.toml: ${table}.${owner}.modules: there is no [modules.${missing}]`,
      );
    }
  }
}
