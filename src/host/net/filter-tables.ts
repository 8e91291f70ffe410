import type { Exec } from "../../ports/exec.ts";
import {
  type FilterDifference,
  type FilterListing,
  compareListings,
  filterFamilies,
  parseListing,
  renderRemoval,
} from "./filter-listing.ts";
import type { ScratchNamespaces } from "./scratch-namespaces.ts";

const toolTimeoutMs = 30_000;
const nothing: FilterListing = { items: [], rules: [] };

/**
 * The tables `inet mvm` and `bridge mvm` of this network namespace. What they should be is asked of
 * the kernel too: the text is loaded into an empty namespace and listed there, so that both sides of
 * a comparison have gone through the same `nft`.
 */
export class FilterTables {
  readonly #exec: Exec;
  readonly #namespaces: ScratchNamespaces;

  constructor(exec: Exec, namespaces: ScratchNamespaces) {
    this.#exec = exec;
    this.#namespaces = namespaces;
  }

  /** Makes the tables what `ruleset` says, both at once; nothing is touched when they are. */
  async ensure(ruleset: string): Promise<void> {
    const expected = await this.#expected(ruleset);
    const actual = await this.#actual();
    if (compareListings(expected, actual).length === 0) return;
    const batch = renderRemoval(expected, actual) + ruleset;
    await this.#exec.run("nft", ["-f", "-"], { timeoutMs: toolTimeoutMs, input: batch });
  }

  /** Where the tables are not what `ruleset` says. */
  async differences(ruleset: string): Promise<FilterDifference[]> {
    return compareListings(await this.#expected(ruleset), await this.#actual());
  }

  /** Which of the two tables are there, by family. */
  async present(): Promise<string[]> {
    const args = ["-j", "list", "tables"];
    const { stdout } = await this.#exec.run("nft", args, { timeoutMs: toolTimeoutMs });
    const { items } = parseListing(stdout);
    return filterFamilies.filter((family) =>
      items.some((item) => item.family === family && item.name === "mvm"),
    );
  }

  /** One of the tables as `nft` prints it, or undefined when it is not there. */
  async print(family: string, flags: readonly string[] = []): Promise<string | undefined> {
    const args = [...flags, "list", "table", family, "mvm"];
    const { exitCode, stdout, stderr } = await this.#exec.tryRun("nft", args, {
      timeoutMs: toolTimeoutMs,
    });
    if (exitCode === 0) return stdout;
    if (stderr.includes("No such file or directory")) return undefined;
    // Whatever else is wrong, this one fails with it.
    return (await this.#exec.run("nft", args, { timeoutMs: toolTimeoutMs })).stdout;
  }

  async #actual(): Promise<FilterListing> {
    const listings: FilterListing[] = [];
    for (const family of filterFamilies) {
      const json = await this.print(family, ["-j"]);
      if (json !== undefined) listings.push(parseListing(json));
    }
    return {
      items: listings.flatMap(({ items }) => items),
      rules: listings.flatMap(({ rules }) => rules),
    };
  }

  async #expected(ruleset: string): Promise<FilterListing> {
    if (ruleset === "") return nothing;
    await using namespace = await this.#namespaces.make("rules");
    await namespace.run("nft", ["-f", "-"], { input: ruleset });
    return parseListing(await namespace.run("nft", ["-j", "list", "ruleset"]));
  }
}
