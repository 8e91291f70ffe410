import { mkdir, rm, utimes, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type BuildOptions, build, transform } from "esbuild";

const root = join(import.meta.dirname, "..");
const startedAt = new Date();

const common = {
  absWorkingDir: root,
  bundle: true,
  platform: "node",
  target: "node24",
  format: "esm",
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: "none",
  logLevel: "warning",
} as const satisfies BuildOptions;

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
  console.log(`${path.slice(root.length + 1)}: ${text.length} bytes`);
}

// The programs of the guest. One file each, so that a guest needs no node_modules; the same input gives
// the same bytes.
const guest = await build({
  ...common,
  entryPoints: { agent: "src/guest/agent.ts", gateway: "src/guest/gateway.ts" },
  outdir: "dist/guest",
  outExtension: { ".js": ".mjs" },
  write: false,
});
for (const { path, text } of guest.outputFiles) await write(path, text);

// Names of chunks come from their content, so those of an older build would stay behind.
for (const left of ["sources.json", "cache", "chunks"]) {
  await rm(join(root, "dist", left), { recursive: true, force: true });
}

// The program of the host. What a command may not need is a file of its own, loaded when it is asked for.
// It is split as ES modules and then written as CommonJS, which starts sooner: see docs/adr/0014-bundle.md.
const host = await build({
  ...common,
  entryPoints: { main: "src/main.ts", start: "src/start.ts" },
  outdir: "dist",
  outExtension: { ".js": ".cjs" },
  chunkNames: "chunks/[name]-[hash]",
  splitting: true,
  // They load native code from packages of their own, one for each system.
  external: ["@infisical/quic", "koffi"],
  define: { "import.meta.dirname": "__dirname" },
  metafile: true,
  write: false,
});
for (const { path, text } of host.outputFiles) {
  const { code } = await transform(text, {
    format: "cjs",
    platform: "node",
    target: "node24",
    supported: { "dynamic-import": false },
    minifySyntax: true,
    minifyWhitespace: true,
  });
  await write(path, code);
}

// Written last: a build that was interrupted counts as none. What changed meanwhile is newer than its
// start. Packages change with the lock file alone.
const own = Object.keys(host.metafile.inputs).filter((path) => path.startsWith("src/"));
const list = join(root, "dist", "sources.json");
await writeFile(list, JSON.stringify([...own, "package.json", "package-lock.json"]));
await utimes(list, startedAt, startedAt);
