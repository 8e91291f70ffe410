import * as z from "zod";

/** One thing of a packet filter, without what the kernel counts or numbers by itself. */
interface FilterItem {
  readonly family: string;
  readonly kind: string;
  readonly name: string;
  /** Everything that makes it what it is, as text that is equal for equal things. */
  readonly body: string;
  /** A set that is filled while packets flow: what is in it is no part of the rules. */
  readonly filled: boolean;
}

interface FilterRule {
  readonly family: string;
  readonly chain: string;
  readonly comment: string;
  readonly body: string;
}

/** The tables of mvm, as `nft -j` lists them. */
export interface FilterListing {
  readonly items: readonly FilterItem[];
  readonly rules: readonly FilterRule[];
}

export interface FilterDifference {
  readonly name: string;
  readonly problem: string;
}

export const filterFamilies = ["inet", "bridge"] as const;

const listingSchema = z.object({
  nftables: z.array(z.record(z.string(), z.record(z.string(), z.unknown()))),
});

/** Reads what `nft -j list` printed. @throws ZodError when it has another form. */
export function parseListing(json: string): FilterListing {
  const items: FilterItem[] = [];
  const rules: FilterRule[] = [];
  for (const entry of listingSchema.parse(JSON.parse(json)).nftables) {
    for (const [kind, value] of Object.entries(entry)) {
      if (kind === "metainfo") continue;
      const text = (key: string): string => {
        const part = value[key];
        return typeof part === "string" ? part : "";
      };
      const { handle: _handle, comment: _comment, ...rest } = value;
      if (kind === "rule") {
        rules.push({
          family: text("family"),
          chain: text("chain"),
          comment: text("comment"),
          body: canonical(rest),
        });
        continue;
      }
      const filled = "timeout" in rest;
      const { elem: _elements, ...definition } = rest;
      items.push({
        family: text("family"),
        kind,
        name: text("name"),
        body: canonical(filled ? definition : rest),
        filled,
      });
    }
  }
  return { items, rules };
}

/** Where what the kernel has is not what it should have; empty when it is the same. */
export function compareListings(
  expected: FilterListing,
  actual: FilterListing,
): FilterDifference[] {
  const present = new Set(actual.items.filter(isTable).map(({ family }) => family));
  const differences = expected.items
    .filter(isTable)
    .filter(({ family }) => !present.has(family))
    .map(({ family }) => ({ name: `table ${family} mvm`, problem: "is not there" }));
  const inPresent = ({ family }: { readonly family: string }): boolean => present.has(family);
  const wanted = {
    items: expected.items.filter(inPresent),
    rules: expected.rules.filter(inPresent),
  };
  return [...differences, ...compareItems(wanted, actual), ...compareRules(wanted, actual)];
}

function compareItems(expected: FilterListing, actual: FilterListing): FilterDifference[] {
  const wanted = new Map(expected.items.map((item) => [nameOf(item), item]));
  const found = new Map(actual.items.map((item) => [nameOf(item), item]));
  const names = [...new Set([...wanted.keys(), ...found.keys()])];
  return names.flatMap((name): FilterDifference[] => {
    const want = wanted.get(name);
    const have = found.get(name);
    if (want === undefined) return [{ name, problem: "is not mvm's" }];
    if (have === undefined) return [{ name, problem: "is not there" }];
    return want.body === have.body ? [] : [{ name, problem: "is not as it should be" }];
  });
}

function compareRules(expected: FilterListing, actual: FilterListing): FilterDifference[] {
  const chainOf = ({ family, chain }: FilterRule): string => `table ${family} mvm, chain ${chain}`;
  const chains = new Set([...expected.rules, ...actual.rules].map(chainOf));
  return [...chains].flatMap((name) => {
    const want = expected.rules.filter((rule) => chainOf(rule) === name);
    const have = actual.rules.filter((rule) => chainOf(rule) === name);
    const missing = without(want, have).map(({ comment }) => ({
      name,
      problem: `the rule "${comment}" is not there or is not as it should be`,
    }));
    const foreign = without(have, want).map(({ comment, body }) => ({
      name,
      problem: `a rule is not mvm's: ${(comment === "" ? body : comment).slice(0, 200)}`,
    }));
    if (missing.length + foreign.length > 0) return [...missing, ...foreign];
    const same = want.every((rule, index) => rule.body === have[index]?.body);
    return same ? [] : [{ name, problem: "its rules are in another order" }];
  });
}

/** The rules of the first list that the second lacks, as often as it lacks them. */
function without(rules: readonly FilterRule[], others: readonly FilterRule[]): FilterRule[] {
  const left = others.map(({ body }) => body);
  return rules.filter(({ body }) => {
    const index = left.indexOf(body);
    if (index >= 0) left.splice(index, 1);
    return index < 0;
  });
}

/**
 * The `nft` commands that make room for the tables as they should be, for the head of the same
 * batch. Sets that are filled while packets flow stay, so that a change for one tenant does not
 * close another's flows; everything else goes.
 */
export function renderRemoval(expected: FilterListing, actual: FilterListing): string {
  return filterFamilies.map((family) => removalOf(family, expected, actual)).join("");
}

function removalOf(family: string, expected: FilterListing, actual: FilterListing): string {
  const found = actual.items.filter((item) => item.family === family);
  const table = found.find(isTable);
  if (table === undefined) return "";
  const wanted = new Set(expected.items.map((item) => `${nameOf(item)} ${item.body}`));
  const isWanted = (item: FilterItem): boolean => wanted.has(`${nameOf(item)} ${item.body}`);
  const isPlain = ({ kind }: FilterItem): boolean =>
    ["table", "chain", "set", "map"].includes(kind);
  if (!isWanted(table) || !found.every(isPlain)) return `delete table ${family} mvm\n`;
  const sets = found.filter((item) => item.kind === "set" || item.kind === "map");
  const chains = found.filter((item) => item.kind === "chain");
  // Rules refer to sets, and the elements of maps to chains.
  return [
    `flush table ${family} mvm`,
    ...sets
      .filter((item) => !item.filled || !isWanted(item))
      .map((item) => `delete ${item.kind} ${family} mvm ${item.name}`),
    ...chains.map((item) => `delete chain ${family} mvm ${item.name}`),
  ]
    .map((line) => `${line}\n`)
    .join("");
}

function isTable({ kind }: FilterItem): boolean {
  return kind === "table";
}

function nameOf({ family, kind, name }: FilterItem): string {
  return kind === "table" ? `table ${family} mvm` : `table ${family} mvm, ${kind} ${name}`;
}

/** JSON with the elements of sets in a fixed order: the kernel lists them as they lie in its hash table. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (key, part: unknown) => {
    const unordered = (key === "elem" || key === "set") && Array.isArray(part);
    return unordered ? part.map((element) => canonical(element)).toSorted() : part;
  });
}
