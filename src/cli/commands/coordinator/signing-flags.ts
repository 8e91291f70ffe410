import { wholeNumber } from "../../parameters.ts";
import { parseLife } from "./document-file.ts";

/** How a document is signed. */
export interface SigningFlags {
  readonly key?: string;
  readonly expires: number;
  readonly generation?: number;
}

interface ParsedFlag<T> {
  readonly kind: "parsed";
  readonly parse: (text: string) => T;
  readonly brief: string;
  readonly placeholder?: string;
}

export const signingFlags: {
  readonly key: ParsedFlag<string> & { readonly optional: true };
  readonly expires: ParsedFlag<number> & { readonly default: string };
  readonly generation: ParsedFlag<number> & { readonly optional: true };
} = {
  key: {
    kind: "parsed",
    parse: String,
    optional: true,
    brief: "Private key to sign with; the coordinator's own when left out",
    placeholder: "file",
  },
  expires: {
    kind: "parsed",
    parse: parseLife,
    default: "1h",
    brief: "How long nodes may take the signed document (10m, 1h, 7d)",
  },
  generation: {
    kind: "parsed",
    parse: wholeNumber(1, Number.MAX_SAFE_INTEGER),
    optional: true,
    brief: "Number of the document: a node takes none below its last",
  },
};
