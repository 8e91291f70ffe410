import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { UsageError } from "../../../src/domain/errors.ts";
import type { GuestService } from "../../../src/domain/guest-service.ts";
import {
  chosenModules,
  parseProfiles,
  type Profiles,
  wantedPackages,
  wantedPayloads,
} from "../../../src/image/profiles.ts";
import { type BuiltPackages, chooseServices } from "../../../src/image/services.ts";

const built: BuiltPackages = {
  storePath: "/nix/store/x-app",
  programs: ["app", "helper"],
  modules: new Map(),
};

function workerServices(profiles: Profiles, packages: BuiltPackages = built): GuestService[] {
  return chooseServices(profiles, "worker", "minimal", packages);
}

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
    assert.deepEqual(workerServices(profiles), [
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
      chooseServices(profiles, role, "minimal", built).map(({ name }) => name);
    assert.deepEqual(names("gateway"), ["router"]);
    assert.deepEqual(names("worker"), ["app"]);
    assert.deepEqual(wantedPackages(profiles, "gateway", "minimal"), [
      { name: "tenant-gateway-minimal", complete: true },
      { name: "tenant-minimal", complete: true },
      { name: "gateway", complete: false },
      { name: "minimal", complete: false },
      { name: "default", complete: false },
    ]);
    assert.deepEqual(wantedPackages(profiles, "worker", "default"), [
      { name: "tenant-worker-default", complete: true },
      { name: "tenant-default", complete: true },
      { name: "default", complete: false },
    ]);
  });

  it("is not asked for a profile that is no name of a package", () => {
    assert.throws(() => wantedPackages({}, "worker", "a\nb"), UsageError);
  });

  it("may give a role other payloads", () => {
    const profiles = parseProfiles('payloads = ["openclaw"]\n[roles.gateway]\npayloads = []');
    assert.deepEqual(wantedPayloads(profiles, "worker", "minimal"), ["openclaw"]);
    assert.deepEqual(wantedPayloads(profiles, "gateway", "minimal"), []);
    assert.deepEqual(wantedPayloads({}, "worker", "minimal"), []);
  });

  const withModules = parseProfiles(`
    [services.app]
    command = "app"
    [roles.worker]
    modules = ["metrics"]
    [profiles.debug]
    modules = ["shell", "metrics"]
    [modules.metrics]
    package = "exporter"
    payloads = ["guest"]
    [modules.metrics.services.metrics]
    command = "exporter --listen 9100"
    [modules.shell.services.shell]
    command = "helper"
  `);
  const exporter = { storePath: "/nix/store/y-exporter", programs: ["exporter"] };

  it("may name modules for roles and profiles, which bring packages, services and payloads", () => {
    assert.deepEqual([...chosenModules(withModules, "worker", "minimal").keys()], ["metrics"]);
    assert.deepEqual([...chosenModules(withModules, "gateway", "minimal").keys()], []);
    assert.deepEqual(
      [...chosenModules(withModules, "gateway", "debug").keys()],
      ["metrics", "shell"],
    );
    assert.deepEqual(wantedPayloads(withModules, "worker", "minimal"), ["guest"]);
    const services = chooseServices(withModules, "worker", "debug", {
      ...built,
      modules: new Map([["metrics", exporter]]),
    });
    assert.deepEqual(
      services.map(({ name, command }) => [name, command[0]]),
      [
        ["app", "/nix/store/x-app/bin/app"],
        ["metrics", "/nix/store/y-exporter/bin/exporter"],
        ["shell", "/nix/store/x-app/bin/helper"],
      ],
    );
  });

  it("needs no program in a package whose modules bring what runs", () => {
    const { services: _, ...profiles } = withModules;
    const services = workerServices(profiles, {
      ...built,
      programs: [],
      modules: new Map([["metrics", exporter]]),
    });
    assert.deepEqual(
      services.map(({ name }) => name),
      ["metrics"],
    );
  });

  it("is refused when a module and the package have a service of the same name", () => {
    const profiles = parseProfiles(`
      [services.app]
      command = "app"
      [roles.worker]
      modules = ["other"]
      [modules.other.services.app]
      command = "helper"
    `);
    assert.throws(() => workerServices(profiles), /service app more than once/);
  });

  const wrong: readonly [string, string, RegExp][] = [
    ["is not TOML", "[services", /line 1/],
    ["has an unknown key", '[services.a]\ncommand = "app"\nprot = 1', /prot/],
    ["has no command", "[services.a]\nport = 1", /command/],
    ["has a port that is none", '[services.a]\ncommand = "app"\nport = 70000', /port/],
    ["has an unknown role", '[roles.boss]\npackage = "x"', /roles/],
    ["has a command of another type", "[services.a]\ncommand = 5", /command/],
    ["has an environment of another type", '[services.a]\ncommand = "a"\nenv = { A = 1 }', /env/],
    ["names a module there is not", '[roles.worker]\nmodules = ["x"]', /no \[modules.x\]/],
    [
      "names a module by a word of JavaScript",
      '[roles.worker]\nmodules = ["constructor"]',
      /no \[/,
    ],
    ["has an unknown field in a module", '[modules.x]\nflake = "y"', /flake/],
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
      assert.throws(() => workerServices(profiles), message);
    });
  }

  it("need not say that a gateway runs mvm's own, whatever the flake is for", () => {
    for (const profiles of [{}, parseProfiles('[services.app]\ncommand = "app"')]) {
      const services = chooseServices(profiles, "gateway", "minimal", built);
      assert.deepEqual(
        services.map(({ name, command }) => [name, command.at(-1)]),
        [["gateway", "/usr/lib/mvm/gateway.mjs"]],
      );
    }
  });

  it("is not needed by a package with one program", () => {
    const [service] = workerServices({}, { ...built, programs: ["My_App"] });
    assert.equal(service?.name, "my-app");
    assert.deepEqual(service?.command, ["/nix/store/x-app/bin/My_App"]);
  });

  it("is asked for by a package with more than one program, which are listed", () => {
    assert.throws(() => workerServices({}), /more than one program: app, helper/);
    assert.throws(() => workerServices({}, { ...built, programs: [] }), /no program/);
  });
});
