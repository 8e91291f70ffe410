import { UsageError } from "../domain/errors.ts";
import type { GuestService } from "../domain/guest-service.ts";
import type { Role } from "../domain/roles.ts";
import { chosenModules, type Profiles, type Service, type Services } from "./profiles.ts";

/** A package that was built, and the names of the executables in its `bin`. */
export interface BuiltPackage {
  readonly storePath: string;
  readonly programs: readonly string[];
}

/** The package of an image, and those of its modules that have one, by the module's name. */
export interface BuiltPackages extends BuiltPackage {
  readonly modules: ReadonlyMap<string, BuiltPackage>;
}

/** The user of a service that names none; it is in the guest base's `/etc/passwd`. */
const defaultUser = "worker";
const maxServices = 32;

/** What runs in a role when the flake does not say otherwise for it: a gateway routes, whatever its flake is for. */
const roleServices: Partial<Record<Role, Services>> = {
  gateway: {
    gateway: {
      command: ["/usr/bin/node", "--max-old-space-size=96", "/usr/lib/mvm/gateway.mjs"],
    },
  },
};

/**
 * What runs in an image: the services that the flake gives the role, else what mvm itself runs in that
 * role, else the services of the flake, else the only program of the package; and the services of its modules. A program without a slash is one of the package's `bin`,
 * for a module's service of the module's package first.
 * @throws UsageError when nothing, or more than one thing, could be meant.
 */
export function chooseServices(
  profiles: Profiles,
  role: Role,
  profile: string,
  built: BuiltPackages,
): GuestService[] {
  const modules = chosenModules(profiles, role, profile);
  const ofModules = [...modules].flatMap(([name, module]) => {
    const own = built.modules.get(name);
    return defineAll(module.services ?? {}, own === undefined ? [built] : [own, built]);
  });
  const chosen = profiles.roles?.[role]?.services ?? roleServices[role] ?? profiles.services;
  const ofPackage =
    chosen !== undefined
      ? defineAll(chosen, [built])
      : // A package without programs is a library, or content, for what its modules run.
        ofModules.length > 0 && built.programs.length === 0
        ? []
        : [onlyProgram(built)];
  const definitions = [...ofPackage, ...ofModules].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  if (definitions.length > maxServices) {
    throw new UsageError(`mvm-profiles.toml has more than ${maxServices} services`);
  }
  const twice = definitions.find(({ name }, index) => definitions[index + 1]?.name === name);
  if (twice !== undefined) {
    throw new UsageError(`mvm-profiles.toml has service ${twice.name} more than once`, {
      hint: "services of modules and of the package need different names",
    });
  }
  checkNeeds(definitions);
  return definitions;
}

function defineAll(services: Services, packages: readonly BuiltPackage[]): GuestService[] {
  return Object.entries(services).map(([name, given]) => define(name, given, packages));
}

function define(name: string, given: Service, packages: readonly BuiltPackage[]): GuestService {
  const words = typeof given.command === "string" ? splitWords(name, given.command) : given.command;
  const [program = "", ...args] = words;
  if (given.health !== undefined && given.port === undefined) {
    throw new UsageError(`service ${name} has a health check and no port`);
  }
  return {
    name,
    command: [findProgram(name, program, packages), ...args],
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

function findProgram(name: string, program: string, packages: readonly BuiltPackage[]): string {
  if (program.startsWith("/")) return program;
  const [first] = packages;
  if (program.startsWith("bin/") && first !== undefined) return `${first.storePath}/${program}`;
  const owner = packages.find(({ programs }) => programs.includes(program));
  if (owner !== undefined) return `${owner.storePath}/bin/${program}`;
  throw new UsageError(`service ${name}: the package has no program "${program}"`, {
    hint: `it has: ${packages.flatMap(({ programs }) => programs).join(", ") || "none"}`,
  });
}

function onlyProgram(built: BuiltPackage): GuestService {
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
function checkNeeds(definitions: readonly GuestService[]): void {
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
