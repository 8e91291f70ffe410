import { UsageError } from "./errors.ts";

/** The keys of a tenant's secrets that one integration of a pool gets. */
export interface SecretScope {
  /** Its folder below /run/secrets, and the name of its user in the guest. */
  readonly integration: string;
  readonly keys: readonly string[];
}

/** One `secrets.json` of a secrets drive. */
export interface SecretsFile {
  /** The folder it lies in; null at the top, when the pool has no scopes. */
  readonly integration: string | null;
  /** The user in the guest that alone may read it. */
  readonly uid: number;
  readonly values: Readonly<Record<string, string>>;
}

/** The name of a secret, as it can be the name of an environment variable. */
export const secretName: RegExp = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
const integrationName = /^[a-z][a-z0-9-]{0,31}$/;
/** Accounts of the guest base; an integration may be the workload itself, and never one of these. */
const reservedNames: ReadonlySet<string> = new Set(["root", "nobody"]);
const maxScopes = 16;
const maxKeysAScope = 256;

/** The guest base's account for workloads: what runs as it reads secrets without scopes. */
const worker = { name: "worker", uid: 1000 } as const;
/** Users of other integrations have their uids here. */
const firstIntegrationUid = 20_000;
const integrationUids = 40_000;

/** What is wrong with a scope; undefined when nothing is. */
function secretScopeProblem({ integration, keys }: SecretScope): string | undefined {
  if (!integrationName.test(integration)) return `${JSON.stringify(integration)} is no integration`;
  if (reservedNames.has(integration)) return `the guest's account ${integration} is reserved`;
  if (keys.length === 0 || keys.length > maxKeysAScope) {
    return `a scope has 1 to ${maxKeysAScope} keys, not ${keys.length}`;
  }
  const wrong = keys.find((key) => !secretName.test(key));
  return wrong === undefined ? undefined : `${JSON.stringify(wrong)} is no name of a secret`;
}

/** What is wrong with the scopes of a pool together; undefined when nothing is. */
export function secretScopesProblem(scopes: readonly SecretScope[]): string | undefined {
  if (scopes.length > maxScopes) {
    return `a pool has at most ${maxScopes} secret scopes, not ${scopes.length}`;
  }
  return (
    scopes.map(secretScopeProblem).find((problem) => problem !== undefined) ?? findClash(scopes)
  );
}

/** Parses `integration=KEY,KEY`. @throws UsageError */
export function parseSecretScope(text: string): SecretScope {
  const separator = text.indexOf("=");
  const scope = {
    integration: text.slice(0, Math.max(0, separator)),
    keys: text.slice(separator + 1).split(","),
  };
  const problem = secretScopeProblem(scope);
  if (problem === undefined) return scope;
  throw new UsageError(`"${text}" is not a secret scope: ${problem}`, {
    hint: "write it as integration=KEY,KEY, such as telegram=TELEGRAM_BOT_TOKEN",
  });
}

/** As `parseSecretScope` reads it. */
export function formatSecretScope({ integration, keys }: SecretScope): string {
  return `${integration}=${keys.join(",")}`;
}

/** @throws UsageError when there are too many, or two cannot be told apart in a guest. */
export function assertSecretScopes(scopes: readonly SecretScope[]): void {
  const problem = secretScopesProblem(scopes);
  if (problem !== undefined) throw new UsageError(problem);
}

/**
 * The uid of an integration's user in every guest. It follows from the name alone, so that what the
 * user owns on a data disk stays its own, whatever other integrations come and go.
 */
export function integrationUid(integration: string): number {
  if (integration === worker.name) return worker.uid;
  // FNV-1a, 32 bits: any even spread will do.
  let hash = 0x81_1c_9d_c5;
  for (const character of integration) {
    hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01_00_01_93) >>> 0;
  }
  return firstIntegrationUid + (hash % integrationUids);
}

/** What lies on the secrets drive of an instance: with scopes only what they name, without them everything. */
export function secretsFiles(
  scopes: readonly SecretScope[],
  secrets: Readonly<Record<string, string>>,
): SecretsFile[] {
  if (scopes.length === 0) return [{ integration: null, uid: worker.uid, values: secrets }];
  return scopes.map(({ integration, keys }) => ({
    integration,
    uid: integrationUid(integration),
    // A key that is not set yet is no error: the file has it from the start after it was set.
    values: Object.fromEntries(Object.entries(secrets).filter(([name]) => keys.includes(name))),
  }));
}

function findClash(scopes: readonly SecretScope[]): string | undefined {
  const byUid = new Map<number, string>();
  for (const { integration } of scopes) {
    const uid = integrationUid(integration);
    const other = byUid.get(uid);
    if (other === integration) return `integration ${integration} has two secret scopes`;
    if (other !== undefined) return `integrations ${other} and ${integration} would be one user`;
    byUid.set(uid, integration);
  }
  return undefined;
}
