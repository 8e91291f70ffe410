import * as z from "zod";
import { OperationError } from "../domain/errors.ts";
import type { RevisionInput } from "../domain/revision.ts";
import type { BuiltPackage, BuiltPackages } from "./services.ts";

/** What a builder says about its build; every field is checked for its form and none is trusted. */
export type BuildAnswer = {
  /** The name of the package in the flake. */
  readonly attribute: string;
  readonly narHash: string;
  /** The flake's inputs as Nix locked them, sorted by name. */
  readonly inputs: readonly RevisionInput[];
} & (
  | ({ readonly kind: "package" } & BuiltPackages)
  | { readonly kind: "complete"; readonly rootfs: "image" | "tree" }
);

/** The names of what was unpacked, as they are in the output. */
export interface OutputNames {
  readonly folders: ReadonlySet<string>;
  readonly files: ReadonlySet<string>;
  /** Files with the executable bit, and links. */
  readonly executables: ReadonlySet<string>;
}

const maxInputs = 1000;
const sri = z.string().regex(/^sha256-[A-Za-z0-9+/]{43}=$/);
const word = z.string().regex(/^[\x21-\x7e]{1,1024}$/);
const locked = z.looseObject({
  type: word,
  narHash: sri.optional(),
  path: word.optional(),
  url: word.optional(),
  owner: word.optional(),
  repo: word.optional(),
  rev: word.optional(),
});
/** What `nix flake metadata --json` of Nix 2.8 and later says, as far as it is kept. */
const metadataSchema = z.looseObject({
  locked: locked.extend({ narHash: sri }),
  locks: z.looseObject({
    root: z.string(),
    nodes: z.record(word, z.looseObject({ locked: locked.optional() })),
  }),
});

/** Puts together what a builder said with what it brought. @throws OperationError when they do not fit. */
export function describeAnswer(
  answers: ReadonlyMap<string, string>,
  names: OutputNames,
): BuildAnswer {
  const chosen = /^(package|complete) ([\w-]{1,128})$/.exec(answers.get("attribute") ?? "");
  const attribute = chosen?.[2];
  if (attribute === undefined) throw refused("it names no package");
  const about = { attribute, ...readMetadata(answers.get("metadata.json") ?? "") };
  if (chosen?.[1] === "complete") return { kind: "complete", ...about, rootfs: rootfsOf(names) };
  if ([...names.folders, ...names.files].some((name) => name.startsWith("mvm-image/"))) {
    throw refused("it holds an image and names a package");
  }
  const modules = new Map<string, BuiltPackage>();
  for (const line of (answers.get("modules") ?? "").split("\n").filter((text) => text !== "")) {
    const [name = "", storePath = ""] = line.split(" ");
    if (!/^[a-z0-9][a-z0-9-]{0,39}$/.test(name)) throw refused("it has a module without a name");
    modules.set(name, builtPackage(storePath, names));
  }
  return { kind: "package", ...about, ...builtPackage(answers.get("out") ?? "", names), modules };
}

function rootfsOf({ folders, files }: OutputNames): "image" | "tree" {
  const isImage = files.has("mvm-image/rootfs.ext4");
  const isTree = folders.has("mvm-image/rootfs");
  const missing = ["kernel", "initrd"].filter((name) => !files.has(`mvm-image/${name}`));
  if (!isImage && !isTree) missing.push("rootfs.ext4 or rootfs");
  if (missing.length > 0) throw refused(`the image has no ${missing.join(", no ")}`);
  if (isImage && isTree) throw refused("the image has both rootfs.ext4 and rootfs");
  if (folders.has("nix/store")) throw refused("it holds an image and a Nix store beside it");
  return isImage ? "image" : "tree";
}

function builtPackage(storePath: string, names: OutputNames): BuiltPackage {
  if (!/^\/nix\/store\/[^/]+$/.test(storePath) || !names.folders.has(storePath.slice(1))) {
    throw refused("the package is no folder of it");
  }
  const bin = `${storePath.slice(1)}/bin/`;
  const programs = [...names.executables]
    .filter((name) => name.startsWith(bin) && !name.slice(bin.length).includes("/"))
    .map((name) => name.slice(bin.length))
    .toSorted();
  return { storePath, programs };
}

function readMetadata(text: string): { narHash: string; inputs: RevisionInput[] } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw refused("what it says of the flake is not JSON", error);
  }
  const parsed = metadataSchema.safeParse(value);
  if (!parsed.success) throw refused("it does not say what the flake was locked to", parsed.error);
  const { locks } = parsed.data;
  const inputs = Object.entries(locks.nodes)
    .filter(([name]) => name !== locks.root)
    .flatMap(([name, node]): RevisionInput[] =>
      node.locked?.narHash === undefined
        ? []
        : [{ name, url: lockedUrl(node.locked), nar_hash: node.locked.narHash }],
    )
    .toSorted((left, right) => (left.name < right.name ? -1 : 1));
  if (inputs.length > maxInputs) throw refused(`the flake has more than ${maxInputs} inputs`);
  return { narHash: parsed.data.locked.narHash, inputs };
}

/** The URL form of a locked input. Source: Nix manual, "nix flake", flake references. */
function lockedUrl(input: z.infer<typeof locked>): string {
  const revision = input.rev === undefined ? "" : `/${input.rev}`;
  if (input.owner !== undefined && input.repo !== undefined) {
    return `${input.type}:${input.owner}/${input.repo}${revision}`;
  }
  if (input.path !== undefined) return `${input.type}:${input.path}`;
  const url = input.url ?? "";
  return input.type === "git"
    ? `git+${url}${input.rev === undefined ? "" : `?rev=${input.rev}`}`
    : url;
}

function refused(why: string, cause?: unknown): OperationError {
  return new OperationError(`the builder's output is refused: ${why}`, { cause });
}
