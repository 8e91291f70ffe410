import assert from "node:assert/strict";
import { test } from "node:test";
import { HostLacksError } from "../../../../src/domain/errors.ts";
import {
  type HostFacts,
  parseOsRelease,
  requireSupportedHost,
} from "../../../../src/host/setup/supported-host.ts";

const good: HostFacts = {
  platform: "linux",
  architecture: "x64",
  isRoot: true,
  osRelease: 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
  hasApt: true,
};

test("Debian, Ubuntu and what is made from them can be nodes", () => {
  for (const osRelease of [
    good.osRelease,
    "ID=ubuntu\nID_LIKE=debian\n",
    'ID=mint\nID_LIKE="ubuntu debian"\n',
  ]) {
    requireSupportedHost({ ...good, osRelease });
  }
});

for (const [what, change, says] of [
  ["another system", { platform: "darwin" }, /runs Linux, and this is darwin/],
  ["another processor", { architecture: "arm64" }, /x86-64/],
  ["no root", { isRoot: false }, /needs root/],
  [
    "another distribution",
    { osRelease: 'ID=fedora\nPRETTY_NAME="Fedora 42"\n' },
    /this is Fedora 42/,
  ],
  ["no os-release", { osRelease: "" }, /an unknown system/],
  ["no apt", { hasApt: false }, /no apt-get/],
] as const) {
  test(`with ${what} the host is refused, with what to do`, () => {
    assert.throws(
      () => requireSupportedHost({ ...good, ...change }),
      (error) =>
        error instanceof HostLacksError && says.test(error.message) && error.hint !== undefined,
    );
  });
}

test("os-release is read with and without quotes", () => {
  assert.deepEqual(parseOsRelease("ID='debian'\nPRETTY_NAME=\"A B\"\nVERSION_ID=12\n"), {
    name: "A B",
    family: ["debian"],
  });
});
