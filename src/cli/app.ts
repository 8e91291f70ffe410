import { type Application, buildApplication, buildRouteMap } from "@stricli/core";
import { addHost } from "./commands/add-host.ts";
import { agentServe } from "./commands/agent/serve.ts";
import { certsInit } from "./commands/agent/certs-init.ts";
import { certsInstall } from "./commands/agent/certs-install.ts";
import { certsRequest } from "./commands/agent/certs-request.ts";
import { certsRotate } from "./commands/agent/certs-rotate.ts";
import { certsStatus } from "./commands/agent/certs-status.ts";
import { agentReconcile } from "./commands/agent/reconcile.ts";
import { completion } from "./commands/completion.ts";
import { connect } from "./commands/connect.ts";
import { caInit } from "./commands/coordinator/ca-init.ts";
import { caIssue } from "./commands/coordinator/ca-issue.ts";
import { caList } from "./commands/coordinator/ca-list.ts";
import { caRenew } from "./commands/coordinator/ca-renew.ts";
import { caRevoke } from "./commands/coordinator/ca-revoke.ts";
import { coordinatorKeygen } from "./commands/coordinator/keygen.ts";
import { coordinatorPlan } from "./commands/coordinator/plan.ts";
import { coordinatorPush } from "./commands/coordinator/push.ts";
import { coordinatorSecretsPush } from "./commands/coordinator/secrets-push.ts";
import { coordinatorSign } from "./commands/coordinator/sign.ts";
import { coordinatorStatus } from "./commands/coordinator/status.ts";
import { deploy } from "./commands/deploy.ts";
import { doctor } from "./commands/doctor.ts";
import { hostdServe } from "./commands/hostd/serve.ts";
import { explain } from "./commands/explain.ts";
import { events } from "./commands/events.ts";
import { instanceDestroy } from "./commands/instance/destroy.ts";
import { instanceExec } from "./commands/instance/exec.ts";
import { instanceInfo } from "./commands/instance/info.ts";
import { instanceList } from "./commands/instance/list.ts";
import { instanceLogs } from "./commands/instance/logs.ts";
import { instanceStart } from "./commands/instance/start.ts";
import { instanceStats } from "./commands/instance/stats.ts";
import { instanceStop } from "./commands/instance/stop.ts";
import { instanceWake } from "./commands/instance/wake.ts";
import { instanceWarm } from "./commands/instance/warm.ts";
import { newDeployment } from "./commands/new.ts";
import { netRepair } from "./commands/net/repair.ts";
import { netVerify } from "./commands/net/verify.ts";
import { nodeStats } from "./commands/node/stats.ts";
import { nodeInfo } from "./commands/node/info.ts";
import { poolBuild } from "./commands/pool/build.ts";
import { poolCreate } from "./commands/pool/create.ts";
import { poolDestroy } from "./commands/pool/destroy.ts";
import { poolInfo } from "./commands/pool/info.ts";
import { poolList } from "./commands/pool/list.ts";
import { poolUpdate } from "./commands/pool/update.ts";
import { poolRollback } from "./commands/pool/rollback.ts";
import { poolScale } from "./commands/pool/scale.ts";
import { tenantCreate } from "./commands/tenant/create.ts";
import { tenantDestroy } from "./commands/tenant/destroy.ts";
import { tenantInfo } from "./commands/tenant/info.ts";
import { tenantKeyGenerate } from "./commands/tenant/key-generate.ts";
import { tenantKeyImport } from "./commands/tenant/key-import.ts";
import { tenantKeyStatus } from "./commands/tenant/key-status.ts";
import { tenantList } from "./commands/tenant/list.ts";
import { tenantUpdate } from "./commands/tenant/update.ts";
import { tenantSecretsList } from "./commands/tenant/secrets-list.ts";
import { tenantSecretsRotate } from "./commands/tenant/secrets-rotate.ts";
import { tenantSecretsSet } from "./commands/tenant/secrets-set.ts";
import type { CliContext } from "./context.ts";
import { exitCodeOf } from "./exit-codes.ts";
import { commandTexts } from "./texts.ts";

/** The whole command line. */
export function buildCommandLine(version: string): Application<CliContext> {
  const root = buildRouteMap({
    docs: {
      brief: "Multi-tenant microVMs: tenant, pool, instance",
      fullDescription:
        "Prepare a machine with `mvm add host`, make a deployment with `mvm new openclaw <name>`, see it with `mvm connect <name>`.",
    },
    routes: {
      add: buildRouteMap({ docs: { brief: "Prepare machines" }, routes: { host: addHost } }),
      doctor,
      new: newDeployment,
      deploy,
      connect,
      events,
      explain,
      tenant: buildRouteMap({
        docs: { brief: "The boundary of a customer: network, quotas, secrets" },
        routes: {
          create: tenantCreate,
          list: tenantList,
          info: tenantInfo,
          update: tenantUpdate,
          destroy: tenantDestroy,
          secrets: buildRouteMap({
            docs: { brief: "Secrets of a tenant" },
            routes: {
              set: tenantSecretsSet,
              list: tenantSecretsList,
              rotate: tenantSecretsRotate,
            },
          }),
          key: buildRouteMap({
            docs: { brief: "The encryption key of a tenant" },
            routes: {
              status: tenantKeyStatus,
              generate: tenantKeyGenerate,
              import: tenantKeyImport,
            },
          }),
        },
      }),
      pool: buildRouteMap({
        docs: { brief: "Groups of equal instances" },
        routes: {
          create: poolCreate,
          list: poolList,
          info: poolInfo,
          update: poolUpdate,
          scale: poolScale,
          build: poolBuild,
          rollback: poolRollback,
          destroy: poolDestroy,
        },
      }),
      instance: buildRouteMap({
        docs: { brief: "Single microVMs" },
        routes: {
          list: instanceList,
          info: instanceInfo,
          start: instanceStart,
          stop: instanceStop,
          warm: instanceWarm,
          wake: instanceWake,
          stats: instanceStats,
          exec: instanceExec,
          logs: instanceLogs,
          destroy: instanceDestroy,
        },
      }),
      net: buildRouteMap({
        docs: { brief: "Networks of the tenants on this machine" },
        routes: { verify: netVerify, repair: netRepair },
      }),
      node: buildRouteMap({
        docs: { brief: "This machine as a node" },
        routes: { info: nodeInfo, stats: nodeStats },
      }),
      agent: buildRouteMap({
        docs: { brief: "This machine as a node of a fleet" },
        routes: {
          serve: agentServe,
          reconcile: agentReconcile,
          certs: buildRouteMap({
            docs: { brief: "The node's key and certificate" },
            routes: {
              init: certsInit,
              request: certsRequest,
              install: certsInstall,
              rotate: certsRotate,
              status: certsStatus,
            },
          }),
        },
      }),
      coordinator: buildRouteMap({
        docs: { brief: "A fleet, from outside: its CA, its documents, its nodes" },
        routes: {
          status: coordinatorStatus,
          push: coordinatorPush,
          plan: coordinatorPlan,
          keygen: coordinatorKeygen,
          sign: coordinatorSign,
          secrets: buildRouteMap({
            docs: { brief: "Secrets of tenants, on nodes" },
            routes: { push: coordinatorSecretsPush },
          }),
          ca: buildRouteMap({
            docs: { brief: "The CA of a fleet" },
            routes: {
              init: caInit,
              issue: caIssue,
              list: caList,
              renew: caRenew,
              revoke: caRevoke,
            },
          }),
        },
      }),
      hostd: buildRouteMap({
        docs: { brief: "The part of mvm that needs root" },
        routes: { serve: hostdServe },
      }),
      completion,
    },
  });
  return buildApplication(root, {
    name: "mvm",
    versionInfo: { currentVersion: version },
    scanner: { caseStyle: "allow-kebab-for-camel", allowArgumentEscapeSequence: true },
    documentation: { disableAnsiColor: true },
    localization: { text: commandTexts },
    determineExitCode: exitCodeOf,
  });
}
