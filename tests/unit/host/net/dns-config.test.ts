import assert from "node:assert/strict";
import { test } from "node:test";
import { dnsPaths, renderDnsConfig, renderHosts } from "../../../../src/host/net/dns-config.ts";
import { tenantState } from "../../../hosts/tenant-topology.ts";

test("the DNS server listens at the tenant's gateway alone and keeps the tenant's names to itself", () => {
  const text = renderDnsConfig(tenantState(1, []), dnsPaths("/run/mvm/dns", 1), "/etc/resolv.conf");
  assert.match(text, /^bind-interfaces$/m);
  assert.deepEqual(text.match(/^listen-address=.*$/gm), ["listen-address=10.240.1.1"]);
  assert.match(text, /^local=\/mvm\/$/m);
  assert.match(text, /^user=dnsmasq$/m);
});

test("the hosts file has a line for each name of each instance, by address", () => {
  const state = tenantState(1, [3, 2]);
  assert.equal(
    renderHosts(state),
    [
      "10.240.1.2 i-2.web.mvm",
      "10.240.1.2 web.mvm",
      "10.240.1.3 i-3.web.mvm",
      "10.240.1.3 web.mvm",
      "",
    ].join("\n"),
  );
});

test("what is no DNS name does not get into the hosts file", () => {
  const [port] = tenantState(1, [2]).ports;
  assert.ok(port !== undefined);
  for (const name of ["", "a b.mvm", "a.mvm\n10.0.0.1 b.mvm", "a..mvm", `${"a".repeat(64)}.mvm`]) {
    assert.throws(() =>
      renderHosts({ ...tenantState(1, []), ports: [{ ...port, names: [name] }] }),
    );
  }
});
