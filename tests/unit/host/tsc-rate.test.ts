import assert from "node:assert/strict";
import { test } from "node:test";
import { agreedTscKhz } from "../../../src/host/vmm/qemu/probe.ts";

const cpuinfo = (mhz: string): string =>
  `processor\t: 0\ncpu MHz\t\t: ${mhz}\ncache size\t: 1 KB\n`;
const console = (mhz: string): string => `[ 0.00] tsc: Detected ${mhz} MHz processor\r\n`;

test("the TSC rate is what guest and host agree on, in kHz, as the host states it", () => {
  assert.equal(agreedTscKhz(console("2596.100"), cpuinfo("2596.096")), 2_596_096);
});

test("a difference of two in a thousand is believed, and more is not", () => {
  assert.equal(agreedTscKhz(console("2004.000"), cpuinfo("2000.000")), 2_000_000);
  assert.equal(agreedTscKhz(console("1996.000"), cpuinfo("2000.000")), 2_000_000);
  assert.equal(agreedTscKhz(console("2004.100"), cpuinfo("2000.000")), null);
  assert.equal(agreedTscKhz(console("1995.900"), cpuinfo("2000.000")), null);
});

test("where guest or host does not say, there is no rate", () => {
  assert.equal(agreedTscKhz("", cpuinfo("2000.000")), null);
  assert.equal(agreedTscKhz(console("2000.000"), "processor\t: 0\n"), null);
  assert.equal(agreedTscKhz(console("0.000"), cpuinfo("0.000")), null);
  assert.equal(agreedTscKhz("Kernel panic", ""), null);
});
