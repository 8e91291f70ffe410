import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";
import { copyFile, cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const projectDir = join(import.meta.dirname, "..", "..", "..");
const maxLines = 400;

interface LintConfig {
  readonly overrides: readonly { readonly files: readonly string[]; readonly rules: object }[];
}

/** The folders of `src/` that the architecture's table names, with what each may import. */
async function tabled(): Promise<Map<string, string>> {
  const text = await readFile(join(projectDir, "docs", "architecture.md"), "utf8");
  const rows = [...text.matchAll(/^\| `src\/([a-z-]+)\/` *\|.*\| ([^|]+) \|$/gm)];
  return new Map(rows.map(([, name = "", imports = ""]) => [name, imports.trim()]));
}

/** The folders of `src/` that have something in them. */
function sourceFolders(): string[] {
  const files = globSync("src/*/**/*.ts", { cwd: projectDir });
  return [...new Set(files.map((file) => file.split("/")[1] ?? ""))];
}

/** Which folders of `src/` the linter keeps from importing others, and which others. */
async function fenced(): Promise<Map<string, string[]>> {
  const config = JSON.parse(
    await readFile(join(projectDir, ".oxlintrc.json"), "utf8"),
  ) as LintConfig;
  const fences = config.overrides.flatMap(({ files, rules }) => {
    const folder = /^\*\*\/src\/([a-z-]+)\//.exec(files[0] ?? "")?.[1];
    if (folder === undefined || !("no-restricted-imports" in rules)) return [];
    const names = [...JSON.stringify(rules).matchAll(/\*\*\/\.\.\/([a-z-]+)\/\*\*/g)];
    return [[folder, names.map(([, name = ""]) => name)] as const];
  });
  return new Map(fences);
}

test("every folder of src is in the architecture's table", async () => {
  const table = await tabled();
  assert.ok(table.size >= 8, "the table was not found");
  for (const folder of sourceFolders()) assert.ok(table.has(folder), `src/${folder}/`);
});

test("the linter keeps every folder from importing what the table does not allow it", async () => {
  const [table, fences] = [await tabled(), await fenced()];
  for (const folder of sourceFolders()) {
    const refused = fences.get(folder);
    assert.ok(refused !== undefined, `src/${folder}/ has no rule`);
    const allowed = (table.get(folder) ?? "").split(", ");
    for (const other of sourceFolders()) {
      const isRefused = other !== folder && !allowed.includes(other);
      assert.equal(refused.includes(other), isRefused, `src/${folder}/ importing src/${other}/`);
    }
  }
});

test("no source file is longer than 400 lines", async () => {
  for (const file of globSync("{src,scripts}/**/*.ts", { cwd: projectDir })) {
    const lines = (await readFile(join(projectDir, file), "utf8")).split("\n").length;
    assert.ok(lines <= maxLines, `${file} has ${lines} lines`);
  }
});

test("an import that the architecture forbids fails the linter, and passes once it is gone", async () => {
  const folder = await mkdtemp(join(tmpdir(), "mvm-lint-"));
  try {
    await cp(join(projectDir, "tests", "lint-fixture"), folder, { recursive: true });
    await copyFile(join(projectDir, ".oxlintrc.json"), join(folder, ".oxlintrc.json"));
    const lint = (): { status: number | null; output: string } => {
      const program = join(projectDir, "node_modules", ".bin", "oxlint");
      const result = spawnSync(program, ["-c", ".oxlintrc.json"], {
        cwd: folder,
        encoding: "utf8",
        timeout: 60_000,
      });
      return { status: result.status, output: `${result.stdout}${result.stderr}` };
    };
    const broken = lint();
    assert.notEqual(broken.status, 0, broken.output);
    assert.match(broken.output, /src\/domain\/ may import only: nothing of ours/);
    assert.match(broken.output, /\.\.\/host\/thing\.ts/);
    await writeFile(
      join(folder, "src", "domain", "imports-host.ts"),
      "export const y: number = 1;\n",
    );
    const mended = lint();
    assert.equal(mended.status, 0, mended.output);
  } finally {
    await rm(folder, { recursive: true });
  }
});
