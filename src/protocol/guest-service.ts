import * as z from "zod/mini";
import { type GuestService, healthPath } from "../domain/guest-service.ts";

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
      path: z.string().check(z.regex(healthPath)),
      expect: z.string().check(z.maxLength(256)),
    }),
  ),
  needs: z.array(name).check(z.maxLength(32)),
});
