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
    name: "an interrupted stop is not finished",
    file: "node/actions/settle.ts",
    find: '    case "stop":\n      await stopInstance(context, address);\n      return;',
    replace: '    case "stop":\n      break;',
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
    name: "an image is taken back when its instances are well",
    file: "planner/plan-rollout.ts",
    find: 'state.vmm.revision !== current || health === "healthy") {',
    replace: "state.vmm.revision !== current) {",
  },
  {
    name: "an image that is no good is never taken back",
    file: "planner/plan-rollout.ts",
    find: "if (failing !== undefined && !isProven) {",
    replace: "if (failing !== undefined && !isProven && planning.input.nowMs < 0) {",
  },
  {
    name: "an image that is taken back takes the place of a newer one",
    file: "node/actions/build.ts",
    find: "if (inPlaceOf !== undefined && pool.revisions[0] !== inPlaceOf) return;",
    replace: "",
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
    name: "a tenant is planned without a look at who starts elsewhere",
    file: "node/desired/reconciler.ts",
    find: "startingElsewhereVcpus };",
    replace: "startingElsewhereVcpus: 0 * startingElsewhereVcpus };",
  },
  {
    name: "the drives of an instance that failed are left",
    file: "node/actions/fail.ts",
    find: "  await context.drives.release(address);",
    replace: "",
  },
  {
    name: "the network keeps the port of an instance that stopped",
    file: "node/actions/stop.ts",
    find: "  await applyNetworks(context);\n",
    replace: "",
  },
];
