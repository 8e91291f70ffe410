import { HostLacksError } from "../../domain/errors.ts";

export interface HostFacts {
  /** As Node names them: `linux`, `x64`. */
  readonly platform: string;
  readonly architecture: string;
  readonly isRoot: boolean;
  /** The text of os-release(5); empty when there is none. */
  readonly osRelease: string;
  readonly hasApt: boolean;
}

/** Whether mvm can prepare a machine at all; nothing is changed before this is known. @throws HostLacksError */
export function requireSupportedHost(facts: HostFacts): void {
  if (facts.platform !== "linux") {
    throw new HostLacksError(`a node runs Linux, and this is ${facts.platform}`, {
      hint: "run mvm on a Debian or Ubuntu machine",
    });
  }
  if (facts.architecture !== "x64") {
    throw new HostLacksError(`a node has x86-64 processors, and these are ${facts.architecture}`, {
      hint: "Arm is not tried yet; see docs/limits.md",
    });
  }
  if (!facts.isRoot) {
    throw new HostLacksError("preparing a host needs root", { hint: "run it with sudo" });
  }
  const { name, family } = parseOsRelease(facts.osRelease);
  if (!family.includes("debian") && !family.includes("ubuntu")) {
    throw new HostLacksError(`mvm prepares Debian and Ubuntu, and this is ${name}`, {
      hint: "take one of those, or install what `mvm doctor` lists and prepare by hand",
    });
  }
  if (!facts.hasApt) {
    throw new HostLacksError("there is no apt-get, with which packages are installed", {
      hint: "install apt, or the packages that `mvm doctor` lists",
    });
  }
}

/** The name for people, and the ids of the distribution and of those it is made from. */
export function parseOsRelease(text: string): { readonly name: string; readonly family: string[] } {
  const fields = new Map(
    [...text.matchAll(/^([A-Z_]+)=(?:"([^"\n]*)"|'([^'\n]*)'|([^\n]*))$/gm)].map(
      ([, key, double, single, bare]) => [key, double ?? single ?? bare ?? ""],
    ),
  );
  const family = `${fields.get("ID") ?? ""} ${fields.get("ID_LIKE") ?? ""}`.split(" ");
  return {
    name: fields.get("PRETTY_NAME") ?? fields.get("ID") ?? "an unknown system",
    family: family.filter((id) => id !== ""),
  };
}
