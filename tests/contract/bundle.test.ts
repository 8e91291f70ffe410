import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cp, mkdtemp, readFile, readdir, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

const projectDir = join(import.meta.dirname, "..", "..");

suite("the bundle", () => {
  let checkout = "";
  const mvm = (...args: string[]): { status: number | null; stdout: string; stderr: string } =>
    spawnSync(join(checkout, "bin", "mvm"), args, { encoding: "utf8", timeout: 60_000 });

  before(async () => {
    checkout = await mkdtemp(join(tmpdir(), "mvm-bundle-"));
    for (const part of ["bin", "src", "scripts", "package.json", "package-lock.json"]) {
      await cp(join(projectDir, part), join(checkout, part), { recursive: true });
    }
    await symlink(join(projectDir, "node_modules"), join(checkout, "node_modules"));
    const built = spawnSync(process.execPath, ["scripts/bundle.ts"], {
      cwd: checkout,
      encoding: "utf8",
      timeout: 60_000,
    });
    assert.equal(built.status, 0, built.stderr);
  });
  after(() => rm(checkout, { recursive: true }));

  /** The names of all files that a file of the bundle loads at once, itself included. */
  async function loadedWith(file: string, seen = new Set<string>()): Promise<Set<string>> {
    if (seen.has(file)) return seen;
    seen.add(file);
    const text = await readFile(join(checkout, "dist", file), "utf8");
    const folder = file.startsWith("chunks/") ? "chunks/" : "";
    // What is loaded late stands in a then().
    const atOnce = text.replaceAll(/then\(\(\)=>[^)]*require\([^)]*\)/g, "");
    for (const [, name = ""] of atOnce.matchAll(/require\("\.\/([^"]+\.cjs)"\)/g)) {
      await loadedWith(name.startsWith("chunks/") ? name : `${folder}${name}`, seen);
    }
    return seen;
  }

  async function textOf(files: Iterable<string>): Promise<string> {
    const texts = [...files].map((file) => readFile(join(checkout, "dist", file), "utf8"));
    return (await Promise.all(texts)).join("\n");
  }

  test("gives the same answers as the sources", () => {
    const help = mvm("--help");
    assert.equal(help.status, 0, help.stderr);
    const fromSources = spawnSync(process.execPath, ["src/main.ts", "--help"], {
      cwd: projectDir,
      encoding: "utf8",
    });
    assert.equal(help.stdout, fromSources.stdout);
  });

  test("loads neither schemas nor certificates for a help text", async () => {
    const text = await textOf(await loadedWith("main.cjs"));
    assert.ok(text.includes("Multi-tenant microVMs"));
    assert.deepEqual(text.match(/ZodMini|X509Certificate|reflect-metadata/g), null);
  });

  test("loads neither the engine nor certificates to show records", async () => {
    const chunks = await readdir(join(checkout, "dist", "chunks"));
    const queries = chunks.find((name) => name.startsWith("compose-queries-")) ?? "";
    const text = await textOf(await loadedWith(`chunks/${queries}`));
    assert.ok(text.includes("tenant.json"));
    assert.deepEqual(text.match(/QemuVmm|X509Certificate|Ungültige/g), null);
  });

  test("speaks QUIC, whose library it leaves outside", () => {
    const folder = join(checkout, "coordinator");
    const asCoordinator = (...args: string[]): { status: number | null; stderr: string } =>
      spawnSync(join(checkout, "bin", "mvm"), ["coordinator", ...args], {
        encoding: "utf8",
        timeout: 60_000,
        env: { PATH: process.env["PATH"], MVM_COORDINATOR_DIR: folder },
      });
    const made = asCoordinator("ca", "init");
    assert.equal(made.status, 0, made.stderr);
    const asked = asCoordinator("status", "--node", "127.0.0.1:9");
    assert.equal(asked.status, 1, asked.stderr);
    assert.match(asked.stderr, /127\.0\.0\.1:9 does not answer/);
  });

  test("is passed over where a source is newer or gone, and taken again once none is", async () => {
    const source = join(checkout, "src", "cli", "app.ts");
    const list = join(checkout, "dist", "sources.json");
    const [original, names] = await Promise.all(
      [source, list].map((path) => readFile(path, "utf8")),
    );
    const brief = "Prepare a machine with";
    await writeFile(source, (original ?? "").replace(brief, "Changed just now"));
    assert.match(mvm("--help").stdout, /Changed just now/);
    await utimes(source, 0, 0);
    assert.ok(mvm("--help").stdout.includes(brief));
    await writeFile(
      list,
      JSON.stringify([...(JSON.parse(names ?? "") as string[]), "src/gone.ts"]),
    );
    assert.match(mvm("--help").stdout, /Changed just now/);
  });
});
