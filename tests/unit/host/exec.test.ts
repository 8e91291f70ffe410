import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { HostExec } from "../../../src/host/exec.ts";

const timeoutMs = 10_000;

describe("a program with input", () => {
  const exec = new HostExec();

  it("reads all of it, and then its end", async () => {
    const input = "line\n".repeat(100_000);
    const { stdout } = await exec.run("cat", [], { timeoutMs, input });
    assert.equal(stdout, input);
    assert.equal((await exec.run("cat", [], { timeoutMs, input: "" })).stdout, "");
  });

  it("gets it as a file, since some read no socket, and the file has no name", async () => {
    const { stdout } = await exec.run(
      "stat",
      ["--dereference", "--format=%F, mode %a, %h names", "/dev/stdin"],
      {
        timeoutMs,
        input: "x",
      },
    );
    assert.equal(stdout, "regular file, mode 600, 0 names\n");
  });

  it("may end before it has read it", async () => {
    const result = await exec.tryRun("false", [], { timeoutMs, input: "x".repeat(1 << 20) });
    assert.equal(result.exitCode, 1);
  });
});
