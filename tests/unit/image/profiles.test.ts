import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { UsageError } from "../../../src/domain/errors.ts";
import {
  chooseServices,
  packageNames,
  parseProfiles,
  wantedPayloads,
} from "../../../src/image/profiles.ts";

const built = { storePath: "/nix/store/x-app", programs: ["app", "helper"] };

describe("mvm-profiles.toml", () => {
  it("gives each service its command, user, port, health and needs", () => {
    const profiles = parseProfiles(`
      [services.app]
      command = "app --port 8080"
      env = { LEVEL = "info" }
      port = 8080
      health = { path = "/healthz", expect = "ok" }
      needs = ["cache"]
      [services.cache]
      command = ["/usr/bin/cache"]
      user = "root"
    `);
    assert.deepEqual(chooseServices(profiles, "worker", built), [
      {
        name: "app",
        command: ["/nix/store/x-app/bin/app", "--port", "8080"],
        user: "worker",
        env: { LEVEL: "info" },
        port: 8080,
        health: { path: "/healthz", expect: "ok" },
        needs: ["cache"],
      },
      {
        name: "cache",
        command: ["/usr/bin/cache"],
        user: "root",
        env: {},
        port: null,
        health: null,
        needs: [],
      },
    ]);
  });

  it("may give a role other services and another package", () => {
    const profiles = parseProfiles(`
      [services.app]
      command = "app"
      [roles.gateway]
      package = "gateway"
      [roles.gateway.services.router]
      command = "/usr/bin/router"
    `);
    const names = (role: "gateway" | "worker"): string[] =>
      chooseServices(profiles, role, built).map(({ name }) => name);
    assert.deepEqual(names("gateway"), ["router"]);
    assert.deepEqual(names("worker"), ["app"]);
    assert.deepEqual(packageNames(profiles, "gateway", "minimal"), [
      "tenant-gateway-minimal",
      "tenant-minimal",
      "gateway",
      "minimal",
      "default",
    ]);
    assert.deepEqual(packageNames(profiles, "worker", "default"), [
      "tenant-worker-default",
      "tenant-default",
      "default",
    ]);
  });

  it("may give a role other payloads", () => {
    const profiles = parseProfiles('payloads = ["openclaw"]\n[roles.gateway]\npayloads = []');
    assert.deepEqual(wantedPayloads(profiles, "worker"), ["openclaw"]);
    assert.deepEqual(wantedPayloads(profiles, "gateway"), []);
    assert.deepEqual(wantedPayloads({}, "worker"), []);
  });

  const wrong: readonly [string, string, RegExp][] = [
    ["is not TOML", "[services", /line 1/],
    ["has an unknown key", '[services.a]\ncommand = "app"\nprot = 1', /prot/],
    ["has no command", "[services.a]\nport = 1", /command/],
    ["has a port that is none", '[services.a]\ncommand = "app"\nport = 70000', /port/],
    ["has an unknown role", '[roles.boss]\npackage = "x"', /roles/],
    ["asks for an unknown payload", 'payloads = ["/etc"]', /payloads/],
    ["has a service name that is a path", '[services."../x"]\ncommand = "app"', /services/],
  ];
  for (const [what, toml, message] of wrong) {
    it(`is refused when it ${what}`, () => {
      assert.throws(
        () => parseProfiles(toml),
        (error) => error instanceof UsageError && message.test(error.message),
      );
    });
  }

  const senseless: readonly [string, string, RegExp][] = [
    ["uses a shell", '[services.a]\ncommand = "app | cat"', /no shell/],
    ["names a program there is not", '[services.a]\ncommand = "other"', /no program "other"/],
    ["has health without a port", '[services.a]\ncommand="app"\nhealth={path="/"}', /no port/],
    ["needs what is missing", '[services.a]\ncommand="app"\nneeds=["b"]', /needs b/],
    ["needs itself", '[services.a]\ncommand="app"\nneeds=["a"]', /needs a/],
  ];
  for (const [what, toml, message] of senseless) {
    it(`is refused when a service ${what}`, () => {
      const profiles = parseProfiles(toml);
      assert.throws(() => chooseServices(profiles, "worker", built), message);
    });
  }

  it("is not needed by a package with one program", () => {
    const [service] = chooseServices({}, "worker", { ...built, programs: ["My_App"] });
    assert.equal(service?.name, "my-app");
    assert.deepEqual(service?.command, ["/nix/store/x-app/bin/My_App"]);
  });

  it("is asked for by a package with more than one program, which are listed", () => {
    assert.throws(() => chooseServices({}, "worker", built), /more than one program: app, helper/);
    assert.throws(() => chooseServices({}, "worker", { ...built, programs: [] }), /no program/);
  });
});
