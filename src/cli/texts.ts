import { type ApplicationText, text_en } from "@stricli/core";
import { describeError } from "../domain/errors.ts";
import { renderError } from "./exit-codes.ts";

/** stricli's own texts, with errors said the way mvm says them. */
export const commandTexts: ApplicationText = {
  ...text_en,
  noCommandRegisteredForInput: ({ input, corrections }) => {
    const meant = corrections.length > 0 ? `did you mean ${corrections.join(" or ")}? See` : "see";
    return `mvm: there is no command ${input}\n  next: ${meant} --help`;
  },
  exceptionWhileParsingArguments: (error) => `mvm: ${describeError(error)}\n  next: see --help`,
  exceptionWhileRunningCommand: (error) => renderError(error),
  commandErrorResult: (error) => renderError(error),
};
