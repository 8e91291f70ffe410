import {
  type ProductionFindings,
  type PromiseFact,
  type PromiseFacts,
  promiseNames,
} from "../../src/domain/production.ts";

/** What a look at a host tells that keeps every promise but some, with why not. */
export function productionFindings(
  unkept: ReadonlyMap<string, string>,
  changes: Partial<ProductionFindings> = {},
): ProductionFindings {
  const factOf = (name: string): PromiseFact => {
    const detail = unkept.get(name);
    return detail === undefined
      ? { kept: true, detail: "kept", fix: "" }
      : { kept: false, detail, fix: `mend ${name}` };
  };
  const facts = Object.fromEntries(promiseNames.map((name) => [name, factOf(name)]));
  return {
    facts: facts as unknown as PromiseFacts,
    waivers: [],
    waiversPath: "/etc/mvm/waivers.toml",
    waiversProblem: null,
    ...changes,
  };
}
