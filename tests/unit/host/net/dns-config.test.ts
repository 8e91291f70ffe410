import assert from "node:assert/strict";
import { test } from "node:test";
import { dnsPaths, renderDnsConfig, renderHosts } from "../../../../src/host/net/dns-config.ts";
import { egressPolicy } from "../../../../src/domain/egress.ts";
import { resolverGroups } from "../../../../src/host/net/egress-groups.ts";
import type { TenantNetworkState } from "../../../../src/ports/network.ts";
import { tenantState } from "../../../hosts/tenant-topology.ts";

/** The configurations of a tenant's DNS servers: the one for all names first. */
function configsOf(tenant: TenantNetworkState): string[] {
  return resolverGroups(tenant).map((group) =>
    renderDnsConfig(tenant, group, dnsPaths("/run/mvm/dns", group.key), "/etc/resolv.conf"),
  );
}

test("the DNS server listens at the tenant's gateway alone and keeps the tenant's names to itself", () => {
  const [text = ""] = configsOf(tenantState(1, []));
  assert.match(text, /^bind-interfaces$/m);
  assert.deepEqual(text.match(/^listen-address=.*$/gm), ["listen-address=10.240.1.1"]);
  assert.match(text, /^local=\/mvm\/$/m);
  assert.match(text, /^port=53$/m);
  assert.match(text, /^user=dnsmasq$/m);
});

test("the server of a list asks the tenant's own for the listed names, knows no other, and fills its set", () => {
  const policy = egressPolicy({
    mode: "allow",
    cidrs: [],
    domains: ["b.example", "a.example"],
    ports: [],
  });
  const [, text = "", ...rest] = configsOf(tenantState(1, [2, 3], policy));
  assert.deepEqual(rest, [], "instances with one list share a server");
  assert.match(text, /^no-resolv$/m);
  assert.deepEqual(text.match(/^server=.*$/gm), [
    "server=/mvm/10.240.1.1#53",
    "server=/a.example/10.240.1.1#53",
    "server=/b.example/10.240.1.1#53",
  ]);
  assert.match(text, /^nftset=\/a\.example\/4#inet#mvm#names_1_[0-9a-f]{12}$/m);
  assert.match(text, /^cache-size=0$/m);
});

test("the server for egress none knows the tenant's own names alone and fills no set", () => {
  const [, text = ""] = configsOf(tenantState(1, [2], { mode: "none" }));
  assert.deepEqual(text.match(/^server=.*$/gm), ["server=/mvm/10.240.1.1#53"]);
  assert.doesNotMatch(text, /nftset|resolv-file/);
});

test("the port of a list's server does not depend on which other lists there are", () => {
  const list = (name: string) =>
    egressPolicy({ mode: "allow", cidrs: [], domains: [name], ports: [] });
  const alone = tenantState(1, [2], list("a.example"));
  const beside = {
    ...alone,
    ports: [...alone.ports, ...tenantState(1, [3], list("b.example")).ports],
  };
  const portOf = (tenant: TenantNetworkState): number | undefined =>
    resolverGroups(tenant).find(({ domains }) => domains?.includes("a.example"))?.port;
  assert.equal(portOf(alone), portOf(beside));
  const ports = resolverGroups(beside).map(({ port }) => port);
  assert.equal(new Set(ports).size, 3);
  assert.ok(ports.slice(1).every((port) => port >= 10_000 && port < 30_000));
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
