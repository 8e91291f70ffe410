import * as z from "zod/mini";
import { type SecretScope, secretScopesProblem } from "./secret-scopes.ts";

// Apart from the scopes, so that the command line knows their words without loading schemas.

/** The scopes of a pool as its record holds them. */
export const secretScopesSchema: z.ZodMiniType<readonly SecretScope[]> = z.lazy(() =>
  z
    .array(z.strictObject({ integration: z.string(), keys: z.array(z.string()) }))
    .check((context) => {
      const message = secretScopesProblem(context.value);
      if (message !== undefined) {
        context.issues.push({ code: "custom", message, input: context.value });
      }
    }),
);
