import * as z from "zod/mini";
import { $ZodError } from "zod/v4/core";
import en from "zod/v4/locales/en.js";
import { UsageError, describeError, isSystemError } from "../../domain/errors.ts";

/** What is wrong with a file is said in words. */
export const inEnglish: { readonly error: ReturnType<typeof en>["localeError"] } = {
  error: en().localeError,
};

/** Why a file cannot be used; what is none of the expected errors is thrown on. */
export function problemOf(error: unknown): string {
  if (error instanceof $ZodError) return z.prettifyError(error);
  if (error instanceof SyntaxError) return "it is no JSON, perhaps cut off";
  // An id that is none; a folder in its place, a bad sector, no permission.
  if (error instanceof UsageError || isSystemError(error)) return describeError(error);
  throw error;
}
