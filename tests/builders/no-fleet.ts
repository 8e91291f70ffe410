import type { CliContext } from "../../src/cli/context.ts";

const asked = (): Promise<never> => Promise.reject(new Error("this command asks no fleet"));

/** For commands that neither are part of a fleet nor speak to one. */
export const noFleet: Pick<
  CliContext,
  "certificates" | "authority" | "signingKeys" | "fleet" | "serveAgent"
> = {
  certificates: asked,
  authority: asked,
  signingKeys: asked,
  fleet: asked,
  serveAgent: asked,
};
