import * as z from "zod/mini";
import { MvmError } from "./errors.ts";

/** A text that a parser of the domain takes; what it refuses is one problem among others, with its place. */
export function parsedText<T>(parse: (text: string) => T): z.ZodMiniType<T, string> {
  return z.pipe(
    z.string(),
    z.transform((text, context) => {
      try {
        return parse(text);
      } catch (error) {
        if (!(error instanceof MvmError)) throw error;
        context.issues.push({ code: "custom", message: error.message, input: text });
        return z.NEVER;
      }
    }),
  );
}
