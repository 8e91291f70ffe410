/** A bug that could have been made: one place of the engine or the planner, changed. */
export interface Mutation {
  readonly name: string;
  /** Below `src/`. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export const mutations: readonly Mutation[] = [
  {
    name: "an older document is taken again",
    file: "node/desired/accept.ts",
    find: "if (envelope.generation < newest.generation) {",
    replace: "if (envelope.generation < 0) {",
  },
  {
    name: "a VMM that was started before the crash is started again",
    file: "node/actions/settle.ts",
    find: "  if (living !== undefined) {\n    context.onProgress(`${formatInstance(address)}: adopting",
    replace:
      "  if (living === undefined) {\n    context.onProgress(`${formatInstance(address)}: adopting",
  },
  {
    name: "what a document does not name is removed although a tenant is pinned",
    file: "planner/plan-document.ts",
    find: "    if (tenant.pinned) {",
    replace: "    if (tenant.destroying) {",
  },
  {
    name: "surplus of a critical pool is stopped",
    file: "planner/plan-surplus.ts",
    find: "  if (planning.pool.critical) {\n    holdAsCritical(planning, object);\n    return false;\n  }",
    replace: "",
  },
  {
    name: "pruning takes what is managed on the node",
    file: "planner/plan-document.ts",
    find: 'if (named.has(tenant.tenant_id) || tenant.managed_by === "local") continue;',
    replace: "if (named.has(tenant.tenant_id)) continue;",
  },
  {
    name: "an image that is no good is never taken back",
    file: "planner/plan-rollout.ts",
    find: "if (failing !== undefined && !isProven) {",
    replace: "if (failing !== undefined && !isProven && planning.input.nowMs < 0) {",
  },
  {
    name: "other resources are no reason to exchange an instance",
    file: "planner/plan-rollout.ts",
    find: "      has.vcpus !== wanted.vcpus ||\n      has.mem_mib !== wanted.mem_mib)",
    replace: "      has.vcpus !== wanted.vcpus)",
  },
  {
    name: "a removal that was begun is not gone on with",
    file: "planner/plan-document.ts",
    find: "  if (tenant.destroying) return going;",
    replace: "  if (tenant.destroying) return noChanges;",
  },
  {
    name: "the drives of an instance that failed are left",
    file: "node/actions/fail.ts",
    find: "  await context.drives.release(address);",
    replace: "",
  },
  {
    name: "the drives of an instance that is destroyed are left",
    file: "node/actions/destroy.ts",
    find: "  await context.drives.release(address);\n",
    replace: "",
  },
  {
    name: "what a document changes of a pool is not noticed",
    file: "planner/plan-document.ts",
    find: "if (differingFields(pool, wanted).length === 0) continue;",
    replace: "if (differingFields(pool, wanted).length >= 0) continue;",
  },
  {
    name: "another flake is no reason for another image",
    file: "planner/plan-pool.ts",
    find: "return built_from.flake_ref !== flake_ref || built_from.profile !== profile;",
    replace: "return built_from.profile !== profile;",
  },
  {
    name: "an operator's override never ends",
    file: "domain/management.ts",
    find: "Date.parse(override_until) > nowMs;",
    replace: "Date.parse(override_until) > 0 * nowMs;",
  },
  {
    name: "the VMM of an instance that failed is left",
    file: "node/actions/fail.ts",
    find: "  await endVmm(context, address, 0);\n",
    replace: "",
  },
];
