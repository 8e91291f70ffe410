import type { ProductionFindings } from "../domain/production.ts";

/** Looks at what production promises on this host. */
export interface Production {
  /** What this host keeps now, and the operator's waivers as they are now. Waivers that cannot be used are none, and said. */
  look(): Promise<ProductionFindings>;
}
