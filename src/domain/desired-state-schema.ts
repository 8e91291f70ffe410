import * as z from "zod/mini";
import en from "zod/v4/locales/en.js";
import { maxNetId } from "./address-plan.ts";
import { desiredPoolSchema } from "./desired-pool-schema.ts";
import { DesiredRefusedError } from "./desired-refusal.ts";
import { contradictions } from "./desired-contradictions.ts";
import { type DesiredState, maxDocumentBytes } from "./desired-state.ts";
import { parseTenantId } from "./ids.ts";
import { parsedText } from "./parsed-text.ts";
import { quotasSchema } from "./quota-schema.ts";

const maxPools = 256;
const shownProblems = 100;
/** What a document says finds its way into logs: a name of a megabyte does not. */
const longestProblem = 300;

const schema: z.ZodMiniType<DesiredState> = z.strictObject({
  schema_version: z.literal(1),
  node_id: z.string().check(z.regex(/^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/)),
  tenants: z
    .array(
      z.strictObject({
        tenant_id: parsedText(parseTenantId),
        network: z.strictObject({
          tenant_net_id: z.int().check(z.gte(0), z.lte(maxNetId)),
          ipv4_subnet: z.string(),
        }),
        quotas: quotasSchema,
        pinned: z._default(z.boolean(), false),
        secrets_hash: z.optional(z.string().check(z.regex(/^[0-9a-f]{64}$/))),
        pools: z.array(desiredPoolSchema).check(z.maxLength(maxPools)),
      }),
    )
    .check(z.maxLength(maxNetId + 1)),
  prune_unknown_tenants: z._default(z.boolean(), false),
  prune_unknown_pools: z._default(z.boolean(), false),
});

/** A document that does not follow its schema. */
export class DocumentError extends DesiredRefusedError {
  /** Everything that is wrong with it, each with its place: `tenants[0].pools[1].role: …`. */
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    const shown = problems
      .slice(0, shownProblems)
      .map((problem) => `\n  ${problem.slice(0, longestProblem)}`);
    const more = problems.length - shown.length;
    if (more > 0) shown.push(`\n  and ${more} more`);
    super("malformed", `the desired-state document cannot be used:${shown.join("")}`, {
      hint: "see docs/desired-state-schema.md for what a document says",
    });
    this.problems = problems;
  }
}

/**
 * Reads a desired-state document from its bytes, JSON in UTF-8, and fills in what it leaves to defaults.
 * @throws DocumentError that names every problem with its place: what a field may not say, fields that
 * do not exist, and what contradicts elsewhere.
 */
export function parseDesiredState(bytes: Uint8Array): DesiredState {
  if (bytes.length > maxDocumentBytes) {
    throw new DocumentError([`the document: it has more than ${maxDocumentBytes} bytes`]);
  }
  const value = parseJson(bytes);
  const result = schema.safeParse(value, { error: en().localeError });
  const issues = result.success ? [] : result.error.issues.flatMap((issue) => problemsOf(issue));
  const problems = [...issues, ...contradictions(value)];
  if (!result.success || problems.length > 0) throw new DocumentError(problems);
  return result.data;
}

/** The JSON Schema (draft 2020-12) of a document as it is written, with defaults left out. */
export function desiredStateJsonSchema(): unknown {
  return z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as unknown;
  } catch (error) {
    // A TypeError is how TextDecoder refuses bytes that are no UTF-8.
    if (!(error instanceof SyntaxError) && !(error instanceof TypeError)) throw error;
    throw new DocumentError([`the document: it is not JSON in UTF-8: ${error.message}`]);
  }
}

/** Each field that does not exist is a problem with a place of its own. */
function problemsOf(issue: z.core.$ZodIssue): string[] {
  if (issue.code !== "unrecognized_keys") return [`${placeOf(issue.path)}: ${issue.message}`];
  return issue.keys.map((key) => `${placeOf([...issue.path, key])}: there is no such field`);
}

function placeOf(path: readonly PropertyKey[]): string {
  const place = path.map((key) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`));
  return place.join("").replace(/^\./, "") || "the document";
}
