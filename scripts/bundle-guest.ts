import { join } from "node:path";
import { build } from "esbuild";

const root = join(import.meta.dirname, "..");

// One file each, so that the guest needs no node_modules; the same input gives the same bytes.
const result = await build({
  absWorkingDir: root,
  entryPoints: { agent: "src/guest/agent.ts", gateway: "src/guest/gateway.ts" },
  outdir: "dist/guest",
  outExtension: { ".js": ".mjs" },
  bundle: true,
  platform: "node",
  target: "node24",
  format: "esm",
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
});
for (const [file, output] of Object.entries(result.metafile.outputs)) {
  console.log(`${file}: ${output.bytes} bytes`);
}
