import assert from "node:assert/strict";
import { test } from "node:test";
import { mountPoints, parseMountPoints } from "../../../src/host/mounts.ts";

test("mount points are read with the characters that the kernel escapes", () => {
  const text = [
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
    "90 22 0:41 / /run/a\\040b\\011c\\134d rw - tmpfs mvm-i-0000000a rw,size=16384k",
    "",
  ].join("\n");
  assert.deepEqual(parseMountPoints(text), ["/", "/run/a b\tc\\d"]);
});

test("this process sees /proc mounted", async () => {
  assert.ok((await mountPoints()).includes("/proc"));
});
