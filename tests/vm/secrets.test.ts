import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFile, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { integrationUid } from "../../src/domain/secret-scopes.ts";
import { NodeUnderTest } from "./node-under-test.ts";
import { filesWith, processWith } from "./search.ts";

const telegram = "telegram";
const uid = integrationUid(telegram);

/** Prints which processes of the guest have a text, given on standard input, in arguments or environment. */
const searchProcesses = `
const fs = require("node:fs");
const text = fs.readFileSync(0, "utf8");
let searched = 0;
for (const pid of fs.readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name))) {
  for (const file of ["cmdline", "environ"]) {
    try {
      if (fs.readFileSync("/proc/" + pid + "/" + file).includes(text)) console.log(pid, file);
      searched += 1;
    } catch (error) {
      if (error.code !== "ENOENT" && error.code !== "ESRCH") throw error;
    }
  }
}
console.error("searched", searched);
`;
/** Tells whether a user of the guest can read a file. */
const readAs = `
const [uid, path] = process.argv.slice(1);
process.setgid(Number(uid));
process.setuid(Number(uid));
try {
  require("node:fs").readFileSync(path);
  console.log("yes");
} catch (error) {
  console.log(error.code);
}
`;

/** A guest whose pool has secret scopes, and a canary that must be nowhere but where secrets belong. */
describe("secrets of a microVM", () => {
  const canary = `canary-${randomBytes(12).toString("hex")}`;
  /** All that commands printed. */
  let printed = "";
  let node: NodeUnderTest;
  let instance: { address: string; id: string };

  const run = async (args: readonly string[], input?: string): Promise<string> => {
    const result = await node.try(args, input === undefined ? {} : { input });
    assert.equal(result.exitCode, 0, `mvm ${args.join(" ")}: ${result.stderr}`);
    printed += result.stdout + result.stderr;
    return result.stdout;
  };
  const inGuest = (script: string, args: readonly string[], input = ""): Promise<string> => {
    const command = ["/usr/bin/node", "-e", script, ...args];
    return run(["instance", "exec", "-i", instance.address, "--", ...command], input);
  };

  before(async () => {
    node = await NodeUnderTest.make("secrets");
    await run(["tenant", "create", "acme"]);
    const secrets = JSON.stringify({ BOT_TOKEN: canary, API_KEY: "for the worker" });
    await run(["tenant", "secrets", "set", "acme", "--from-file", "-"], secrets);
    const scopes = ["--secret-scope", `${telegram}=BOT_TOKEN`, "--secret-scope", "worker=API_KEY"];
    const sizes = ["--mem", "256", "--data-disk", "16"];
    await run(["pool", "create", "acme/web", "--flake", "builtin:hello", ...sizes, ...scopes]);
    await run(["pool", "scale", "acme/web", "--running", "1"]);
    const [only] = await node.instances("acme");
    assert.ok(only);
    instance = { address: only.address, id: only.address.split("/")[2] ?? "" };
  });
  after(async () => {
    await node.try(["tenant", "destroy", "acme", "--force", "--wipe-volumes", "--yes"]);
    await node[Symbol.asyncDispose]();
  });

  it("gives each integration its keys, as a user of its own, and nothing else", async () => {
    const listed = await run(
      "instance exec".split(" ").concat(instance.address, "--", "ls", "-ln", "/run/secrets"),
    );
    assert.match(listed, new RegExp(`^dr-x------ .* ${uid} +${uid} .* telegram$`, "m"));
    assert.match(listed, /^dr-x------ .* 1000 +1000 .* worker$/m);
    assert.doesNotMatch(listed, /secrets\.json/);
    const file = `/run/secrets/${telegram}/secrets.json`;
    const read = await node.exec(instance.address, "cat", file);
    assert.deepEqual(JSON.parse(read.stdout), { BOT_TOKEN: canary });
    const mode = await node.exec(instance.address, "stat", "-c", "%a %u", file);
    assert.equal(mode.stdout.trim(), `400 ${uid}`);
    const can = async (who: number, path: string): Promise<string> =>
      (await inGuest(readAs, [String(who), path])).trim();
    assert.equal(await can(uid, file), "yes");
    assert.equal(await can(1000, file), "EACCES");
    assert.equal(await can(1000, "/run/secrets/worker/secrets.json"), "yes");
    assert.equal(await can(uid, "/run/secrets/worker/secrets.json"), "EACCES");
  });

  it("gives the integration's user a name and a folder on the data disk", async () => {
    const account = await node.exec(instance.address, "grep", "^telegram:", "/etc/passwd");
    assert.match(account.stdout, new RegExp(`^telegram:x:${uid}:${uid}:`));
    const folder = await node.exec(
      instance.address,
      "stat",
      "-c",
      "%a %U",
      "/data/integrations/telegram/state",
    );
    assert.equal(folder.stdout.trim(), "700 telegram");
  });

  it("the drive lies in a tmpfs of the instance's own, for root alone", async () => {
    const runDir = join(node.roots.runDir, "i", instance.id);
    const mounts = await readFile("/proc/self/mountinfo", "utf8");
    const mount = mounts.split("\n").find((line) => line.split(" ")[4] === runDir);
    assert.match(mount ?? "", / - tmpfs /);
    assert.equal((await stat(join(runDir, "secrets.ext4"))).mode & 0o7777, 0o600);
    const found = await filesWith(runDir, canary);
    assert.deepEqual(found, [join(runDir, "secrets.ext4")]);
  });

  it("the canary is in no arguments and no environment of any process, on the host and in the guest", async () => {
    assert.equal(await processWith(canary), undefined);
    const result = await node.try(
      ["instance", "exec", "-i", instance.address, "--", "/usr/bin/node", "-e", searchProcesses],
      { input: canary },
    );
    assert.equal(result.exitCode, 0, result.stderr);
    assert.equal(result.stdout, "");
    assert.match(result.stderr, /searched [1-9]\d/);
  });

  it("the canary is on no disk but in secrets.json: drives, logs, records, audit, images", async () => {
    // What was on its way to a disk is there when the guest and its drives are gone.
    await run(["instance", "logs", instance.address]);
    await run(["instance", "logs", instance.address, "--console"]);
    await run(["tenant", "secrets", "list", "acme"]);
    await run(["instance", "stop", instance.address]);
    const only = join(node.roots.stateDir, "tenants", "acme", "secrets.json");
    assert.deepEqual(await filesWith(node.roots.stateDir, canary), [only]);
    const volumes = join(
      node.roots.stateDir,
      "tenants/acme/pools/web/instances",
      instance.id,
      "volumes",
    );
    assert.deepEqual((await readdir(volumes)).toSorted(), ["config.ext4", "data.ext4"]);
    assert.deepEqual(await filesWith(node.roots.folder, canary), [only]);
    assert.ok(!printed.includes(canary), "a command printed it");
  });

  it("which instance holds which epoch is told", async () => {
    await run(["instance", "start", instance.address]);
    const rotated = JSON.stringify({ BOT_TOKEN: "another", API_KEY: "for the worker" });
    await run(["tenant", "secrets", "set", "acme", "--from-file", "-"], rotated);
    const { epoch, instances } = (await node.json("tenant", "secrets", "list", "acme")) as {
      epoch: number;
      instances: { address: string; epoch: number; current: boolean }[];
    };
    assert.deepEqual(
      instances.map(({ address, epoch: held, current }) => [address, held, current]),
      [[instance.address, epoch - 1, false]],
    );
  });
});
