import type { Roots } from "./host/roots.ts";
import { FileStore } from "./host/store/file-store.ts";
import { NodeQueries } from "./node/queries.ts";

/** What the records of this host can answer. */
export function composeQueries(roots: Roots): NodeQueries {
  return new NodeQueries({ store: new FileStore(roots) });
}
