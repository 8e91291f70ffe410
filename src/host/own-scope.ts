import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";

/** The words in front of a command that start it so that it outlives the service that starts it; none where nothing is needed. */
export type OwnScope = (name: string) => readonly string[];

/** Where mvm's own VMMs and their helpers are counted, apart from its daemons. */
const slice = "mvm-vm.slice";
const unitName = /[^A-Za-z0-9:_.-]/g;

/** Where this machine has no service manager: a session of its own is all that a process needs. */
export const noScope: OwnScope = () => [];

/**
 * A scope of its own in `mvm-vm.slice`: what a unit started ends with it, and a scope is none of the
 * unit's. The program has the pid that was spawned, since systemd-run becomes it. See systemd-run(1).
 */
export const systemdScope: OwnScope = (name) => [
  "systemd-run",
  "--scope",
  "--quiet",
  "--collect",
  `--slice=${slice}`,
  // A second start of one instance may come before the end of its former scope is through.
  `--unit=${name.replaceAll(unitName, "-")}-${randomBytes(4).toString("hex")}`,
  "--",
];

/** Whether systemd is this machine's service manager, as sd_booted(3) finds it out. */
export function isSystemdBooted(path: string = "/run/systemd/system"): boolean {
  return existsSync(path);
}

/** What is right on this machine. */
export function hostScope(): OwnScope {
  return isSystemdBooted() ? systemdScope : noScope;
}
