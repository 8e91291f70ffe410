import * as z from "zod/mini";

/** Where the definitions of a guest's services are: `<name>.json` in this folder. */
export const guestServicesFolder = "/etc/mvm/services";

/** One program the guest agent keeps running. */
export interface GuestService {
  readonly name: string;
  /** Program and arguments; no shell. */
  readonly command: readonly string[];
  /** A name in the guest's /etc/passwd. */
  readonly user: string;
  readonly env: Readonly<Record<string, string>>;
  /** The TCP port it answers on, for its health; null when it has none. */
  readonly port: number | null;
  /** Healthy when a GET of `path` answers a body that contains `expect`. */
  readonly health: { readonly path: string; readonly expect: string } | null;
  /** Services that must be healthy before this one starts. */
  readonly needs: readonly string[];
}

const name = z.string().check(z.regex(/^[a-z0-9][a-z0-9-]{0,39}$/));
const text = z.string().check(z.maxLength(8192));

export const guestServiceSchema: z.ZodMiniType<GuestService> = z.strictObject({
  name,
  command: z.array(text).check(z.minLength(1), z.maxLength(256)),
  user: z.string().check(z.regex(/^[a-z_][a-z0-9_-]{0,31}$/)),
  env: z.record(z.string().check(z.regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/)), text),
  port: z.nullable(z.int().check(z.gte(1), z.lte(65535))),
  health: z.nullable(
    z.strictObject({
      path: z.string().check(z.regex(/^\/[\x21-\x7e]{0,255}$/)),
      expect: z.string().check(z.maxLength(256)),
    }),
  ),
  needs: z.array(name).check(z.maxLength(32)),
});
