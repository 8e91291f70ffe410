import * as z from "zod/mini";
import type {
  InstanceAddress,
  InstanceId,
  PoolAddress,
  TenantAddress,
  TenantId,
} from "../domain/ids.ts";
import type { Machine } from "../domain/machine.ts";
import { type Revision, revisionForm } from "../domain/revision.ts";
import type { Role } from "../domain/roles.ts";
import { type GuestConfig, guestConfigSchema } from "./guest-config.ts";
import {
  type SecretsNames,
  type TenantNames,
  type VmmName,
  hashSchema,
  instanceAddressSchema,
  instanceIdSchema,
  machineSchema,
  netIdSchema,
  poolAddressSchema,
  roleSchema,
  secretsNamesSchema,
  tenantAddressSchema,
  tenantIdSchema,
  tenantNamesSchema,
  vmmNameSchema,
} from "./hostd-objects.ts";

/** What the VMM driver of a host can do; see ports/vmm.ts. */
interface Capabilities {
  readonly memorySnapshot: boolean;
  readonly lazyRestore: boolean;
  readonly vsock: boolean;
  readonly jail: boolean;
  readonly driveHotSwap: boolean;
}

interface FoundNetwork {
  readonly bridges: readonly string[];
  readonly taps: readonly string[];
  readonly dnsServers: readonly number[];
  readonly filterTables: readonly string[];
  readonly namespaces: readonly string[];
}

interface Difference {
  readonly part: "link" | "address" | "setting" | "filter" | "tap" | "dns";
  readonly name: string;
  readonly problem: string;
  readonly repair: string;
}

interface Probes {
  readonly probes: readonly {
    readonly what: string;
    readonly allowed: boolean;
    readonly passed: boolean;
  }[];
  readonly rules: string;
}

interface KeyStatus {
  readonly present: boolean;
  readonly fingerprint: string | null;
  readonly changed_at: string | null;
  readonly problem: string | null;
}

interface DiskUse {
  readonly size_mib: number;
  readonly allocated_mib: number;
}

interface Found {
  readonly runFolders: readonly string[];
  readonly mounts: readonly string[];
  readonly probes: readonly { readonly id: string; readonly pid: number }[];
  readonly keyFiles: readonly string[];
  readonly temporaryFiles: readonly string[];
}

/** What an image is built of; the folders and the network of the build are hostd's own. */
export interface BuildNames {
  readonly flakeRef: string;
  readonly profile: string;
  readonly role: Role;
  readonly timeoutMs: number;
  readonly storeOf: TenantId | null;
  readonly network: boolean;
}

/** A record's place: the folders down to it. */
export type RecordAddress = TenantAddress | PoolAddress | InstanceAddress;

type Nothing = Readonly<Record<string, never>>;

interface Operation<Request, Answer> {
  readonly request: Request;
  readonly answer: Answer;
}

/** Everything that hostd can be asked for, with what is asked and what comes back. The table is closed. */
export interface HostdOperations {
  /** What this host can do, and which folders of the state are whose. Asked first. */
  readonly Describe: Operation<Nothing, { capabilities: Capabilities; vmUidBase: number }>;
  /** With `adopt`, a VMM of this instance that is there is the answer: an earlier try of the same call started it. */
  readonly VmmStart: Operation<{ machine: Machine; adopt: boolean }, { vmm: VmmName }>;
  readonly VmmList: Operation<Nothing, { vmms: readonly VmmName[] }>;
  readonly VmmPause: Operation<{ vmm: VmmName }, Nothing>;
  readonly VmmResume: Operation<{ vmm: VmmName }, Nothing>;
  readonly VmmStop: Operation<{ vmm: VmmName; graceMs: number }, Nothing>;
  /** Holds the turn to talk to a guest for as long as the connection lasts. */
  readonly GuestTurn: Operation<{ vmm: VmmName; waitMs: number }, Nothing>;
  /** After the answer the connection is the byte channel to the guest agent. */
  readonly GuestChannel: Operation<{ vmm: VmmName }, Nothing>;
  readonly ConsoleTail: Operation<
    { instance: InstanceAddress; lines: number },
    { lines: string[] }
  >;
  readonly DrivesPrepare: Operation<
    {
      instance: InstanceAddress;
      dataDiskMib: number;
      config: GuestConfig;
      secrets: readonly SecretsNames[];
    },
    { hasData: boolean }
  >;
  readonly DrivesRelease: Operation<{ instance: InstanceId }, Nothing>;
  readonly DrivesDestroy: Operation<{ instance: InstanceAddress; wipe: boolean }, Nothing>;
  readonly DrivesWipeTenant: Operation<{ tenant: TenantId }, Nothing>;
  readonly DataDiskUse: Operation<{ instance: InstanceAddress }, { use: DiskUse | null }>;
  readonly NetworkApply: Operation<
    { tenants: readonly TenantNames[]; keepUnknown: boolean },
    Nothing
  >;
  readonly NetworkInventory: Operation<Nothing, FoundNetwork>;
  readonly NetworkVerify: Operation<
    { tenants: readonly TenantNames[]; keepUnknown: boolean },
    { differences: Difference[] }
  >;
  readonly NetworkProbe: Operation<Nothing, Probes>;
  /** Adds to the net ids ever used on this node, when one is given, and answers all of them. */
  readonly NetIds: Operation<{ use: number | null }, { used: readonly number[] }>;
  readonly BuildKey: Operation<{ build: BuildNames }, { key: string }>;
  readonly Build: Operation<{ build: BuildNames }, { revision: Revision }>;
  readonly BuildLeftovers: Operation<Nothing, { lines: string[] }>;
  readonly BuildSweep: Operation<Nothing, { lines: string[] }>;
  readonly BuildRetainStores: Operation<{ tenants: readonly TenantId[] }, Nothing>;
  readonly ImagesCollect: Operation<{ kept: readonly string[] }, { removed: string[] }>;
  readonly KeyStatus: Operation<{ tenant: TenantId }, KeyStatus>;
  readonly KeyEnsure: Operation<{ tenant: TenantId }, { made: boolean }>;
  /** 32 bytes in base64. */
  readonly KeyReplace: Operation<{ tenant: TenantId; key: string }, Nothing>;
  readonly KeyRemove: Operation<{ tenant: TenantId }, Nothing>;
  /** What lies in the folders that are hostd's, owned by a record or not. */
  readonly HostInventory: Operation<Nothing, Found>;
  /** Makes the folders down to a record: root's, with room for what agentd keeps there. */
  readonly FoldersMake: Operation<{ of: RecordAddress }, Nothing>;
  /** Removes a record's folder, as far as nothing is in it. */
  readonly FoldersRemove: Operation<{ of: RecordAddress }, Nothing>;
}

export type HostdOp = keyof HostdOperations;
export type HostdRequest<K extends HostdOp> = HostdOperations[K]["request"];
export type HostdAnswer<K extends HostdOp> = HostdOperations[K]["answer"];

type Schemas = {
  readonly [K in HostdOp]: {
    readonly request: z.ZodMiniType<HostdRequest<K>>;
    readonly answer: z.ZodMiniType<HostdAnswer<K>>;
  };
};

const nothing = z.strictObject({});
const text = z.string();
const lines = z.strictObject({ lines: z.array(text) });
const aboutVmm = { request: z.strictObject({ vmm: vmmNameSchema }), answer: nothing };
const aboutTenant = z.strictObject({ tenant: tenantIdSchema });
const networks = z.strictObject({
  tenants: z.array(tenantNamesSchema).check(z.maxLength(4096)),
  keepUnknown: z.boolean(),
});
const build = z.strictObject({
  build: z.strictObject({
    flakeRef: text.check(z.maxLength(2048)),
    profile: text.check(z.regex(/^[A-Za-z0-9_][\w-]{0,63}$/)),
    role: roleSchema,
    timeoutMs: z.int().check(z.gte(1), z.lte(24 * 3_600_000)),
    storeOf: z.nullable(tenantIdSchema),
    network: z.boolean(),
  }),
});
const folders = {
  request: z.strictObject({
    of: z.union([instanceAddressSchema, poolAddressSchema, tenantAddressSchema]),
  }),
  answer: nothing,
};
/** A secrets drive of more scopes than a pool may have is asked for by nobody honest. */
const maxScopes = 16;
const maxGraceMs = 3_600_000;

export const hostdSchemas: Schemas = {
  Describe: {
    request: nothing,
    answer: z.strictObject({
      capabilities: z.strictObject({
        memorySnapshot: z.boolean(),
        lazyRestore: z.boolean(),
        vsock: z.boolean(),
        jail: z.boolean(),
        driveHotSwap: z.boolean(),
      }),
      vmUidBase: z.int(),
    }),
  },
  VmmStart: {
    request: z.strictObject({ machine: machineSchema, adopt: z.boolean() }),
    answer: z.strictObject({ vmm: vmmNameSchema }),
  },
  VmmList: {
    request: nothing,
    answer: z.strictObject({ vmms: z.array(vmmNameSchema) }),
  },
  VmmPause: aboutVmm,
  VmmResume: aboutVmm,
  VmmStop: {
    request: z.strictObject({
      vmm: vmmNameSchema,
      graceMs: z.int().check(z.nonnegative(), z.lte(maxGraceMs)),
    }),
    answer: nothing,
  },
  GuestTurn: {
    request: z.strictObject({
      vmm: vmmNameSchema,
      waitMs: z.number().check(z.nonnegative(), z.lte(maxGraceMs)),
    }),
    answer: nothing,
  },
  GuestChannel: aboutVmm,
  ConsoleTail: {
    request: z.strictObject({
      instance: instanceAddressSchema,
      lines: z.int().check(z.gte(1), z.lte(100_000)),
    }),
    answer: lines,
  },
  DrivesPrepare: {
    request: z.strictObject({
      instance: instanceAddressSchema,
      dataDiskMib: z.int().check(z.nonnegative(), z.lte(64 * 1024 * 1024)),
      config: guestConfigSchema,
      secrets: z.array(secretsNamesSchema).check(z.maxLength(maxScopes)),
    }),
    answer: z.strictObject({ hasData: z.boolean() }),
  },
  DrivesRelease: {
    request: z.strictObject({ instance: instanceIdSchema }),
    answer: nothing,
  },
  DrivesDestroy: {
    request: z.strictObject({ instance: instanceAddressSchema, wipe: z.boolean() }),
    answer: nothing,
  },
  DrivesWipeTenant: { request: aboutTenant, answer: nothing },
  DataDiskUse: {
    request: z.strictObject({ instance: instanceAddressSchema }),
    answer: z.strictObject({
      use: z.nullable(z.strictObject({ size_mib: z.number(), allocated_mib: z.number() })),
    }),
  },
  NetworkApply: { request: networks, answer: nothing },
  NetworkInventory: {
    request: nothing,
    answer: z.strictObject({
      bridges: z.array(text),
      taps: z.array(text),
      dnsServers: z.array(z.int()),
      filterTables: z.array(text),
      namespaces: z.array(text),
    }),
  },
  NetworkVerify: {
    request: networks,
    answer: z.strictObject({
      differences: z.array(
        z.strictObject({
          part: z.enum(["link", "address", "setting", "filter", "tap", "dns"]),
          name: text,
          problem: text,
          repair: text,
        }),
      ),
    }),
  },
  NetworkProbe: {
    request: nothing,
    answer: z.strictObject({
      probes: z.array(z.strictObject({ what: text, allowed: z.boolean(), passed: z.boolean() })),
      rules: text,
    }),
  },
  NetIds: {
    request: z.strictObject({ use: z.nullable(netIdSchema) }),
    answer: z.strictObject({ used: z.array(netIdSchema) }),
  },
  BuildKey: { request: build, answer: z.strictObject({ key: hashSchema }) },
  Build: { request: build, answer: z.strictObject({ revision: revisionForm.schema }) },
  BuildLeftovers: { request: nothing, answer: lines },
  BuildSweep: { request: nothing, answer: lines },
  BuildRetainStores: {
    request: z.strictObject({ tenants: z.array(tenantIdSchema) }),
    answer: nothing,
  },
  ImagesCollect: {
    request: z.strictObject({ kept: z.array(hashSchema) }),
    answer: z.strictObject({ removed: z.array(hashSchema) }),
  },
  KeyStatus: {
    request: aboutTenant,
    answer: z.strictObject({
      present: z.boolean(),
      fingerprint: z.nullable(text),
      changed_at: z.nullable(text),
      problem: z.nullable(text),
    }),
  },
  KeyEnsure: { request: aboutTenant, answer: z.strictObject({ made: z.boolean() }) },
  KeyReplace: {
    request: z.strictObject({
      tenant: tenantIdSchema,
      key: z.base64().check(z.length(44)),
    }),
    answer: nothing,
  },
  KeyRemove: { request: aboutTenant, answer: nothing },
  HostInventory: {
    request: nothing,
    answer: z.strictObject({
      runFolders: z.array(text),
      mounts: z.array(text),
      probes: z.array(z.strictObject({ id: text, pid: z.int() })),
      keyFiles: z.array(text),
      temporaryFiles: z.array(text),
    }),
  },
  FoldersMake: folders,
  FoldersRemove: folders,
};

/** Whether a text names an operation of the table. */
export function isHostdOp(op: string): op is HostdOp {
  return Object.hasOwn(hostdSchemas, op);
}
