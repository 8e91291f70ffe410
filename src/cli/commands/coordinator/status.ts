import { type Command, buildCommand } from "@stricli/core";
import type { DialTarget } from "../../../ports/transport.ts";
import type { CliContext } from "../../context.ts";
import { table } from "../../output.ts";
import { jsonFlag } from "../../parameters.ts";
import { nodeFlag } from "./node-flag.ts";
import { field, text } from "./render-push.ts";
import { reportResults } from "./report-results.ts";

interface Flags {
  readonly node: readonly DialTarget[];
  readonly json: boolean;
}

interface Status {
  readonly info: unknown;
  readonly stats: unknown;
}

/** `mvm coordinator status` */
export const coordinatorStatus: Command<CliContext> = buildCommand<Flags, [], CliContext>({
  docs: {
    brief: "Show what nodes are, have and are doing",
    fullDescription:
      "One node in full, several as a table. A node that cannot be asked is named, with the reason, and the exit code tells.",
  },
  parameters: { flags: { ...nodeFlag, ...jsonFlag } },
  async func({ node, json }) {
    const fleet = await this.fleet();
    const options = { signal: this.signal };
    const results = await fleet.each(node, async (client): Promise<Status> => ({
      info: await client.call("NodeInfo", {}, options),
      stats: await client.call("NodeStats", {}, options),
    }));
    if (json || results.length === 1) {
      reportResults(this, results, json, renderOne);
      return;
    }
    const rows = results.flatMap((result) =>
      result.ok ? [[result.node, ...row(result.result)]] : [],
    );
    if (rows.length > 0) this.out.data(table(headings, rows));
    reportResults(
      this,
      results.filter(({ ok }) => !ok),
      false,
      () => "",
    );
  },
});

const headings = [
  "NODE",
  "ID",
  "VERSION",
  "ARCH",
  "VCPUS",
  "MEM MIB",
  "KVM",
  "JAILER",
  "CGROUP2",
  "STATE",
  "GEN",
  "RUNNING",
  "CERTIFICATE ENDS",
  "WAIVED",
  "LACKS",
];

function row({ info, stats }: Status): string[] {
  return [
    text(field(info, "node_id")),
    text(field(info, "version")),
    text(field(info, "architecture")),
    text(field(info, "vcpus")),
    text(field(info, "memory_mib")),
    yesNo(field(info, "kvm")),
    yesNo(field(info, "jailer")),
    yesNo(field(info, "cgroup_v2")),
    text(field(stats, "reconcile", "state")),
    text(field(info, "desired", "generation")),
    running(stats),
    text(field(info, "certificate_expires_at")),
    waived(info),
    lacks(info),
  ];
}

function renderOne({ info, stats }: Status): string {
  const lines: readonly (readonly [string, string])[] = [
    ["Node", text(field(info, "node_id"))],
    ["Version", `mvm ${text(field(info, "version"))}`],
    ["Architecture", text(field(info, "architecture"))],
    ["vCPUs", text(field(info, "vcpus"))],
    ["Memory", `${text(field(info, "memory_mib"))} MiB`],
    ["VMM", `${text(field(info, "vmm"))} ${text(field(info, "vmm_version"))}`],
    ["KVM", yesNo(field(info, "kvm"))],
    ["Jailer", yesNo(field(info, "jailer"))],
    ["cgroup v2", yesNo(field(info, "cgroup_v2"))],
    ["Production", yesNo(field(info, "production"))],
    ...waiverLines(info),
    ["Lacks", lacks(info)],
    ["Attestation", text(field(info, "attestation"))],
    ["Certificate", `until ${text(field(info, "certificate_expires_at"))}`],
    ["Document", document(info)],
    ["State", text(field(stats, "reconcile", "state"))],
    ["Running", running(stats)],
    ["Last error", text(field(stats, "reconcile", "last_error", "cause"), "none")],
  ];
  return ["", ...lines.map(([name, value]) => `  ${`${name}:`.padEnd(14)} ${value}`)].join("\n");
}

function document(info: unknown): string {
  const hash = field(info, "desired", "hash");
  if (typeof hash !== "string") return "none";
  return `generation ${text(field(info, "desired", "generation"))}, ${text(hash).slice(0, 12)}, since ${text(field(info, "desired", "accepted_at"))}`;
}

function running(stats: unknown): string {
  const tenants = field(stats, "tenants");
  if (!Array.isArray(tenants)) return "-";
  const sum = (...path: string[]): number =>
    tenants.reduce<number>((total, tenant) => {
      const value = field(tenant, ...path);
      return total + (typeof value === "number" ? value : 0);
    }, 0);
  return `${sum("instances", "running")}/${sum("wanted", "running")}`;
}

function waived(info: unknown): string {
  const waivers = field(info, "waivers");
  if (!Array.isArray(waivers) || waivers.length === 0) return "nothing";
  return waivers.map((waiver) => text(field(waiver, "promise") ?? waiver)).join(", ");
}

/** Each waiver with why and until when. */
function waiverLines(info: unknown): [string, string][] {
  const waivers = field(info, "waivers");
  if (!Array.isArray(waivers) || waivers.length === 0) return [["Waived", "nothing"]];
  return waivers.map((waiver) => [
    "Waived",
    `${text(field(waiver, "promise"))} until ${text(field(waiver, "until"))}: ${text(field(waiver, "reason"))}`,
  ]);
}

/** What keeps every microVM of a node of production from starting. */
function lacks(info: unknown): string {
  const lacking = field(info, "lacking");
  return Array.isArray(lacking) && lacking.length > 0
    ? lacking.map((promise) => text(promise)).join(", ")
    : "nothing";
}

function yesNo(value: unknown): string {
  return value === true ? "yes" : value === false ? "no" : "-";
}
