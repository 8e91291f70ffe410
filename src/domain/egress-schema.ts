import * as z from "zod/mini";
import { type EgressFields, type EgressPolicy, egressPolicy } from "./egress.ts";
import { UsageError } from "./errors.ts";

// Apart from the policy, so that the command line knows its words without loading schemas.

const maxEntries = 64;

const fieldsSchema: z.ZodMiniType<EgressFields> = z.lazy(() =>
  z.strictObject({
    mode: z.enum(["open", "none", "allow"]),
    cidrs: z._default(z.array(z.string()).check(z.maxLength(maxEntries)), []),
    domains: z._default(z.array(z.string()).check(z.maxLength(maxEntries)), []),
    ports: z._default(
      z.array(z.int().check(z.gte(1), z.lte(65_535))).check(z.maxLength(maxEntries)),
      [],
    ),
  }),
);

/** A policy as a record or a document holds it: `{mode, cidrs[], domains[], ports[]}`. */
export const egressSchema: z.ZodMiniType<EgressPolicy> = z.pipe(
  fieldsSchema,
  z.transform((fields, context) => {
    try {
      return egressPolicy(fields);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      context.issues.push({ code: "custom", message: error.message, input: fields });
      return z.NEVER;
    }
  }),
);
