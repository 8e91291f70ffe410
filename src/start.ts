import { readFileSync, statSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { join } from "node:path";

/**
 * Whether this is a checkout in which a source has changed since the bundle was made of it. The bundle
 * names what it was made of, so that what changed is seen and nothing has to be searched.
 */
function isOutdated(folder: string): boolean {
  const project = join(folder, "..");
  if (statSync(join(project, "src"), { throwIfNoEntry: false }) === undefined) return false;
  const sources = join(folder, "sources.json");
  const madeMs = statSync(sources, { throwIfNoEntry: false })?.mtimeMs;
  if (madeMs === undefined) return true;
  return (JSON.parse(readFileSync(sources, "utf8")) as string[]).some((source) => {
    const changedMs = statSync(`${project}/${source}`, { throwIfNoEntry: false })?.mtimeMs;
    return changedMs === undefined || changedMs > madeMs;
  });
}

// The bundle starts here. Nobody has to build before a change of the sources is in effect.
if (isOutdated(import.meta.dirname)) {
  // Not a literal: the bundler would take the sources for a part of the bundle.
  const main = join(import.meta.dirname, "..", "src", "main.ts");
  void import(main);
} else {
  // What V8 compiled is kept beside the program, where only who may change the program itself can write.
  enableCompileCache(join(import.meta.dirname, "cache"));
  void import("./main.ts");
}
