import assert from "node:assert/strict";
import { test } from "node:test";
import { UsageError } from "../../../src/domain/errors.ts";
import { parseRole, roleHasConfigAndSecrets, rolePriority } from "../../../src/domain/roles.ts";

test("roles are reconciled gateway first, then builder, worker and capabilities", () => {
  const roles = ["capability-gpu", "worker", "builder", "gateway"].map(parseRole);
  const sorted = roles.toSorted((a, b) => rolePriority(a) - rolePriority(b));
  assert.deepEqual(sorted, ["gateway", "builder", "worker", "capability-gpu"]);
  assert.deepEqual(sorted.map(rolePriority), [0, 1, 2, 3]);
});

test("every role but the builder has config and secrets drives", () => {
  for (const role of ["gateway", "worker", "capability-x"]) {
    assert.equal(roleHasConfigAndSecrets(parseRole(role)), true);
  }
  assert.equal(roleHasConfigAndSecrets("builder"), false);
});

test("a word that is no role is refused with the roles there are", () => {
  for (const text of ["", "Gateway", "workers", "capability-", "capability-A", "capability--"]) {
    assert.throws(() => parseRole(text), UsageError, text);
  }
  assert.throws(() => parseRole("boss"), { hint: /gateway, worker, builder or capability-<name>/ });
});
