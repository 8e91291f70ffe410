import { parse, TomlError } from "smol-toml";
import { z } from "zod";
import { UsageError } from "../domain/errors.ts";
import type { Role } from "../domain/roles.ts";

/** One program of an image, as the guest agent reads it from `/etc/mvm/services/<name>.json`. */
export interface ServiceDefinition {
  readonly name: string;
  /** Program and arguments; the program is an absolute path. */
  readonly command: readonly string[];
  readonly user: string;
  readonly env: Readonly<Record<string, string>>;
  readonly port: number | null;
  readonly health: { readonly path: string; readonly expect: string } | null;
  readonly needs: readonly string[];
}

export interface Profiles {
  readonly payloads?: readonly PayloadInput[] | undefined;
  readonly services?: Readonly<Record<string, Service>> | undefined;
  readonly roles?: Readonly<Record<string, RoleProfile>> | undefined;
}

/** What the host prepared and a flake may have as an input, at `path:/mvm/<name>`. */
export type PayloadInput = (typeof payloadInputs)[number];
export const payloadInputs = ["openclaw"] as const;

interface RoleProfile {
  /** The package of this role, looked for before the profile's. */
  readonly package?: string | undefined;
  /** In place of `payloads`. */
  readonly payloads?: readonly PayloadInput[] | undefined;
  /** In place of all of `[services]`. */
  readonly services?: Readonly<Record<string, Service>> | undefined;
}

interface Service {
  readonly command: string | readonly string[];
  readonly user?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly port?: number | undefined;
  readonly health?: { readonly path: string; readonly expect?: string | undefined } | undefined;
  readonly needs?: readonly string[] | undefined;
}

/** The user of a service that names none; it is in the guest base's `/etc/passwd`. */
const defaultUser = "worker";
const maxServices = 32;

const serviceName = z.string().regex(/^[a-z0-9][a-z0-9-]{0,39}$/);
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
const services = z.record(serviceName, service);
const payloads = z.array(z.enum(payloadInputs)).optional();
const profilesSchema: z.ZodType<Profiles> = z.strictObject({
  payloads,
  services: services.optional(),
  roles: z
    .record(
      z.string().regex(/^(?:gateway|builder|worker|capability-[a-z0-9-]{1,42})$/),
      z.strictObject({
        package: z
          .string()
          .regex(/^[\w-]{1,64}$/)
          .optional(),
        payloads,
        services: services.optional(),
      }),
    )
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
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new UsageError(
    `mvm-profiles.toml: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "not understood"}`,
    { hint: "docs/images.md lists what the file may say" },
  );
}

/** The packages to look for in a flake, best first. */
export function packageNames(profiles: Profiles, role: Role, profile: string): string[] {
  const own = profiles.roles?.[role]?.package;
  const names = [
    `tenant-${role}-${profile}`,
    `tenant-${profile}`,
    ...(own === undefined ? [] : [own]),
    profile,
    "default",
  ];
  return [...new Set(names)];
}

/** The payloads that the build of a role gets. */
export function wantedPayloads(profiles: Profiles, role: Role): readonly PayloadInput[] {
  return profiles.roles?.[role]?.payloads ?? profiles.payloads ?? [];
}

/**
 * What runs in an image: the services of the role, else those of the flake, else the only program of
 * the package. A program without a slash is one of the package's `bin` or else of the guest base.
 * @throws UsageError when nothing, or more than one thing, could be meant.
 */
export function chooseServices(
  profiles: Profiles,
  role: Role,
  built: { readonly storePath: string; readonly programs: readonly string[] },
): ServiceDefinition[] {
  const chosen = profiles.roles?.[role]?.services ?? profiles.services;
  if (chosen === undefined) return [onlyProgram(built)];
  const names = Object.keys(chosen).toSorted();
  if (names.length > maxServices) {
    throw new UsageError(`mvm-profiles.toml has more than ${maxServices} services`);
  }
  const definitions = names.map((name) => define(name, chosen[name], built));
  checkNeeds(definitions);
  return definitions;
}

function define(
  name: string,
  given: Service | undefined,
  built: { readonly storePath: string; readonly programs: readonly string[] },
): ServiceDefinition {
  if (given === undefined) throw new UsageError(`no service ${name}`);
  const words = typeof given.command === "string" ? splitWords(name, given.command) : given.command;
  const [program = "", ...args] = words;
  if (given.health !== undefined && given.port === undefined) {
    throw new UsageError(`service ${name} has a health check and no port`);
  }
  return {
    name,
    command: [findProgram(name, program, built), ...args],
    user: given.user ?? defaultUser,
    env: given.env ?? {},
    port: given.port ?? null,
    health:
      given.health === undefined
        ? null
        : { path: given.health.path, expect: given.health.expect ?? "" },
    needs: given.needs ?? [],
  };
}

/** A command in one string is split at blanks; whoever needs more writes a list. */
function splitWords(name: string, command: string): string[] {
  if (/["'`$\\|&;<>]/.test(command)) {
    throw new UsageError(`service ${name}: no shell reads the command "${command}"`, {
      hint: 'write it as a list: command = ["program", "argument"]',
    });
  }
  return command.trim().split(/\s+/);
}

function findProgram(
  name: string,
  program: string,
  built: { readonly storePath: string; readonly programs: readonly string[] },
): string {
  if (program.startsWith("/")) return program;
  if (program.startsWith("bin/")) return `${built.storePath}/${program}`;
  if (built.programs.includes(program)) return `${built.storePath}/bin/${program}`;
  throw new UsageError(`service ${name}: the package has no program "${program}"`, {
    hint: `it has: ${built.programs.join(", ") || "none"}`,
  });
}

function onlyProgram(built: {
  readonly storePath: string;
  readonly programs: readonly string[];
}): ServiceDefinition {
  const [program] = built.programs;
  if (program === undefined || built.programs.length > 1) {
    throw new UsageError(
      program === undefined
        ? "the package has no program, so there is nothing to run"
        : `the package has more than one program: ${built.programs.join(", ")}`,
      { hint: "say what to run in mvm-profiles.toml beside the flake: [services.<name>] command" },
    );
  }
  const name = program
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-+|-+$/g, "");
  return {
    name: name === "" ? "service" : name.slice(0, 40),
    command: [`${built.storePath}/bin/${program}`],
    user: defaultUser,
    env: {},
    port: null,
    health: null,
    needs: [],
  };
}

/** A service that needs itself, over any number of others, would never start. */
function checkNeeds(definitions: readonly ServiceDefinition[]): void {
  const started = new Set<string>();
  let waiting = [...definitions];
  while (waiting.length > 0) {
    const ready = waiting.filter(({ needs }) => needs.every((need) => started.has(need)));
    if (ready.length === 0) {
      const { name, needs } = waiting[0] ?? { name: "", needs: [] };
      throw new UsageError(
        `service ${name} needs ${needs.join(", ")}, which is missing or needs it in turn`,
      );
    }
    for (const { name } of ready) started.add(name);
    waiting = waiting.filter((definition) => !ready.includes(definition));
  }
}
