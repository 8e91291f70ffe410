import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";

const projectDir = join(import.meta.dirname, "..", "..", "..");

/** Does what limactl(1) is asked, as far as files can: `vms`, `status` and what is installed; keeps what it was asked in `log`. */
const limactl = `#!/bin/sh
cd "$STATE" || exit 1
echo "$*" >> log
case "$*" in
  "list --quiet") cat vms ;;
  "list --format"*) cat status ;;
  create*) echo mvm > vms; echo Stopped > status ;;
  start*) echo Running > status ;;
  shell*" cmp "*) [ -e installed ] ;;
  shell*"/install.sh") [ ! -e broken ] ;;
  shell*" mv "*) touch installed ;;
  shell*/opt/mvm/bin/mvm*) echo "in the VM: $*"; exit 4 ;;
esac
`;

describe("mvm on a Mac", () => {
  let folder: string;
  let state: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-lima-"));
    state = join(folder, "state");
    for (const path of ["bin/mvm", "scripts/lima.sh"]) {
      await cp(join(projectDir, path), join(folder, path));
    }
    await mkdir(join(folder, "path"));
    await writeFile(join(folder, "path", "uname"), "#!/bin/sh\necho Darwin\n", { mode: 0o755 });
  });

  beforeEach(async () => {
    await rm(state, { recursive: true, force: true });
    await mkdir(state);
    await writeFile(join(state, "vms"), "");
    await writeFile(join(folder, "path", "limactl"), limactl, { mode: 0o755 });
  });

  after(async () => {
    await rm(folder, { recursive: true });
  });

  const run = (
    ...args: readonly string[]
  ): { status: number | null; stdout: string; stderr: string } =>
    spawnSync("/bin/sh", [join(folder, "bin", "mvm"), ...args], {
      env: { PATH: `${join(folder, "path")}:/usr/bin:/bin`, STATE: state },
      cwd: state,
      encoding: "utf8",
      timeout: 20_000,
    });
  const asked = async (): Promise<string[]> =>
    (await readFile(join(state, "log"), "utf8")).trim().split("\n");

  it("makes a VM, installs mvm in it and runs the command there, from the same folder", async () => {
    const { status, stdout } = run("tenant", "list", "--json");
    const command = `shell --workdir ${state} mvm sudo /opt/mvm/bin/mvm tenant list --json`;
    assert.equal(stdout, `in the VM: ${command}\n`);
    assert.equal(status, 4, "the exit code is the command's");
    const steps = (await asked()).map((line) => line.replace(/^shell --workdir \/ mvm sudo /, ""));
    assert.deepEqual(steps, [
      "list --quiet",
      "create --tty=false --name mvm --cpus 4 --memory 8 --disk 40 template:debian-12",
      "list --format {{.Status}} mvm",
      "start --tty=false mvm",
      `cmp -s ${folder}/package-lock.json /opt/mvm/package-lock.json`,
      "rm -rf /opt/mvm.new",
      `cp -R ${folder} /opt/mvm.new`,
      "rm -rf /opt/mvm.new/node_modules",
      "sh /opt/mvm.new/scripts/install.sh",
      "rm -rf /opt/mvm",
      "mv /opt/mvm.new /opt/mvm",
      command,
    ]);
  });

  it("only runs the command where the VM runs and has mvm", async () => {
    run("doctor");
    await rm(join(state, "log"));
    run("doctor");
    assert.deepEqual(
      (await asked()).map((line) => line.split(" ")[0]),
      ["list", "list", "shell", "shell"],
    );
  });

  it("goes on with an installation that was interrupted", async () => {
    await writeFile(join(state, "broken"), "");
    assert.notEqual(run("doctor").status, 4);
    await rm(join(state, "broken"));
    assert.equal(run("doctor").status, 4);
  });

  it("says what to install where there is no Lima", async () => {
    await rm(join(folder, "path", "limactl"));
    const { status, stderr } = run("doctor");
    assert.equal(status, 7);
    assert.match(stderr, /Lima.*is not installed\n {2}next: brew install lima/);
  });
});
