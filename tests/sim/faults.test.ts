import { test } from "node:test";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { findTemplate } from "../../src/domain/templates.ts";
import { deployTemplate } from "../../src/node/deploy.ts";
import {
  operatorDestroy,
  operatorStart,
  operatorStop,
  operatorWake,
  operatorWarm,
} from "../../src/node/instances.ts";
import { buildPool } from "../../src/node/pool-images.ts";
import { scalePool } from "../../src/node/pools.ts";
import { setSecrets } from "../../src/node/secrets.ts";
import { updatePool } from "../../src/node/update.ts";
import { CrashError, FakeHost } from "../fakes/fake-host.ts";
import { MvmError } from "../../src/domain/errors.ts";
import { addressOf } from "../../src/domain/instance.ts";
import { randomOf } from "../builders/random.ts";
import { assertAuditWhole, assertAudited, assertConverged } from "./checkers.ts";

const tenant = parseTenantId("demo");
const workers = { tenant, pool: parsePoolId("workers") };
const seeds = 400;
const commandsPerSeed = 8;

/** One random thing that an operator, or bad luck, does to a deployment. */
async function disturb(host: FakeHost, random: () => number): Promise<void> {
  const pick = Math.floor(random() * 12);
  const instances = host.records().tenants.flatMap((records) => records.instances);
  const instance = instances[Math.floor(random() * instances.length)];
  if (pick === 0) host.reboot();
  else if (pick === 1) {
    for (const vmm of host.living()) if (random() < 0.4) vmm.alive = false;
  } else if (pick === 2 && instance !== undefined) {
    await operatorStop(host.context(), addressOf(instance));
  } else if (pick === 3 && instance !== undefined) {
    await operatorWarm(host.context(), addressOf(instance));
  } else if (pick === 4 && instance !== undefined) {
    await operatorWake(host.context(), addressOf(instance));
  } else if (pick === 5 && instance !== undefined) {
    await operatorStart(host.context(), addressOf(instance));
  } else if (pick === 6 && instance !== undefined) {
    await operatorDestroy(host.context(), addressOf(instance), random() < 0.5);
  } else if (pick === 7) {
    await setSecrets(host.context(), tenant, { TOKEN: "x" });
  } else if (pick === 8) {
    const vcpus = 1 + Math.floor(random() * 3);
    await updatePool(host.context(), workers, { resources: { vcpus } }, { dryRun: false });
  } else if (pick === 9) {
    await buildPool(host.context(), workers, {});
  } else {
    const counts = { running: Math.floor(random() * 4), warm: Math.floor(random() * 3) };
    await scalePool(host.context(), workers, counts);
  }
}

test(`${seeds} seeded runs with crashes, failing ports and lost VMMs converge once faults end`, async () => {
  for (let seed = 1; seed <= seeds; seed += 1) {
    const random = randomOf(seed);
    const host = new FakeHost();
    host.fault = (call) => {
      if (call === "store.load" || random() > 0.02) return "none";
      const kind = random();
      if (kind < 0.4) return "crash-before";
      return kind < 0.8 || call.startsWith("store.") ? "crash-after" : "fail";
    };
    for (let count = 0; count < commandsPerSeed; count += 1) {
      try {
        if (count === 0) {
          await deployTemplate(host.context(), { tenant, template: findTemplate("openclaw") });
        } else await disturb(host, random);
      } catch (error) {
        if (!(error instanceof CrashError) && !(error instanceof MvmError)) throw error;
        await assertAudited(host, `seed ${seed}`);
      }
    }
    host.fault = () => "none";
    // Overrides of operators and backoffs end by themselves.
    for (let pass = 0; pass < 3; pass += 1) {
      host.nowMs += 700_000;
      await deployTemplate(host.context(), { tenant, template: findTemplate("openclaw") });
    }
    assertConverged(host, `seed ${seed}`);
    await assertAuditWhole(host, `seed ${seed}`);
  }
});
