import { chmod, copyFile, lstat, mkdir, readFile, readlink, symlink } from "node:fs/promises";
import { dirname, isAbsolute, join, normalize } from "node:path";
import { NotFoundError, OperationError, UsageError } from "../domain/errors.ts";
import { isErrno } from "../host/files.ts";
import { parseProfiles, type Profiles } from "./profiles.ts";
import { walk } from "./tree.ts";

/** A flake that lies in a folder of this host. */
export interface FlakeSource {
  readonly flakeRef: string;
  readonly folder: string;
  /** What `locked_url` of a revision begins with. */
  readonly url: string;
}

const maxProfilesBytes = 256 * 1024;
const builtinName = /^builtin:([a-z0-9][a-z0-9-]{0,40})$/;

/** Finds the folder of a flake reference. @throws UsageError, NotFoundError, OperationError. */
export async function findFlake(flakeRef: string, projectDir: string): Promise<FlakeSource> {
  const builtin = builtinName.exec(flakeRef)?.[1];
  if (builtin !== undefined) {
    const folder = join(projectDir, "nix", "flakes", builtin);
    if (!(await hasFile(join(folder, "flake.nix")))) {
      throw new NotFoundError(`mvm has no built-in flake "${builtin}"`, {
        hint: "it has builtin:hello and builtin:openclaw",
      });
    }
    return { flakeRef, folder, url: flakeRef };
  }
  const path = flakeRef.startsWith("path:") ? flakeRef.slice("path:".length) : flakeRef;
  if (isAbsolute(path)) {
    if (/[?#]/.test(path)) throw new UsageError(`"${flakeRef}" may not have parameters`);
    if (!(await hasFile(join(path, "flake.nix")))) {
      throw new NotFoundError(`there is no flake.nix in ${path}`);
    }
    return { flakeRef, folder: path, url: `path:${path}` };
  }
  if (/^[a-z][a-z0-9+.-]*:/.test(flakeRef)) {
    throw new OperationError(`"${flakeRef}" is of a kind that mvm does not fetch`, {
      hint: "use github:<owner>/<repo>, or fetch it into a folder and name that: path:/folder",
    });
  }
  throw new UsageError(`"${flakeRef}" is not a flake reference`, {
    hint: "use builtin:<name>, github:<owner>/<repo>, path:/absolute/folder or an absolute path",
  });
}

/** Copies a flake as its builder will see it; hashing and building read the copy, which does not change. */
export async function copyFlake(source: FlakeSource, target: string): Promise<void> {
  for await (const node of walk(source.folder, "", isNotBuilt)) {
    const place = join(target, node.name);
    if (node.kind === "folder") await mkdir(place, { recursive: true, mode: 0o755 });
    else if (node.kind === "link") {
      const link = await readlink(node.path);
      if (leadsOut(node.name, link)) {
        throw new UsageError(`${node.path} is a link out of the flake, to ${link}`, {
          hint: "a flake is copied without what lies around it: put the file into its folder",
        });
      }
      await symlink(link, place);
    } else {
      await copyFile(node.path, place);
      await chmod(place, node.executable ? 0o755 : 0o644);
    }
  }
}

/** History is no part of what is built and may be larger than all of it. */
export function isNotBuilt(name: string): boolean {
  return name === ".git";
}

/** What `mvm-profiles.toml` beside the flake says; nothing when there is none. @throws UsageError */
export async function readProfiles(folder: string): Promise<Profiles> {
  const path = join(folder, "mvm-profiles.toml");
  try {
    const { size } = await lstat(path);
    // A link could lead to another file for the key of a build than for the build.
    if (!(await hasFile(path))) throw new UsageError(`${path} is not a plain file`);
    if (size > maxProfilesBytes) {
      throw new UsageError(`${path} is larger than ${maxProfilesBytes} bytes`);
    }
  } catch (error) {
    if (isErrno(error, "ENOENT")) return {};
    throw error;
  }
  return parseProfiles(await readFile(path, "utf8"));
}

/** Whether a link at `name` of a tree points to something outside of it. */
function leadsOut(name: string, link: string): boolean {
  return isAbsolute(link) || normalize(join(dirname(name), link)).split("/")[0] === "..";
}

async function hasFile(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isFile();
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR")) return false;
    throw error;
  }
}
