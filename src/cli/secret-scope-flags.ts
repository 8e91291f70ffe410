import { UsageError } from "../domain/errors.ts";
import { type SecretScope, parseSecretScope } from "../domain/secret-scopes.ts";

/** What the flags of a pool's secret scopes give. */
export interface SecretScopeFlagValues {
  readonly secretScope?: readonly SecretScope[];
  readonly allSecrets?: boolean;
}

export const secretScopeFlags: {
  readonly secretScope: {
    readonly kind: "parsed";
    readonly parse: (text: string) => SecretScope;
    readonly variadic: true;
    readonly optional: true;
    readonly brief: string;
    readonly placeholder: string;
  };
  readonly allSecrets: {
    readonly kind: "boolean";
    readonly optional: true;
    readonly withNegated: false;
    readonly brief: string;
  };
} = {
  secretScope: {
    kind: "parsed",
    parse: parseSecretScope,
    variadic: true,
    optional: true,
    brief: "Secrets that one integration alone gets, as integration=KEY,KEY; may be repeated",
    placeholder: "scope",
  },
  allSecrets: {
    kind: "boolean",
    optional: true,
    withNegated: false,
    brief: "No scopes: every instance gets all secrets (the default of a new pool)",
  },
};

/** The scopes that the flags ask for, or undefined without any. @throws UsageError */
export function secretScopesOf(flags: SecretScopeFlagValues): readonly SecretScope[] | undefined {
  if (flags.allSecrets !== true) return flags.secretScope;
  if (flags.secretScope === undefined) return [];
  throw new UsageError("--all-secrets and --secret-scope exclude each other");
}
