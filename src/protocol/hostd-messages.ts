import * as z from "zod/mini";

/** Version of the conversation between agentd and hostd; both come from one release. */
export const hostdProtocolVersion = 1;

/** The first frame of each side: who speaks, and in which version. */
export interface HostdHello {
  readonly id: 0;
  readonly op: "Hello";
  readonly protocol: "mvm-hostd";
  readonly version: number;
  readonly role: "agentd" | "hostd";
}

/** An error as it crosses the socket: `code` is one of domain/errors.ts. */
export interface HostdFailure {
  readonly code: string;
  readonly message: string;
  readonly details: { readonly hint?: string | undefined };
}

/** All that hostd sends after its Hello, for the one request of a connection. */
export type HostdMessage =
  | { readonly id: number; readonly ok: true; readonly result: unknown }
  | { readonly id: number; readonly error: HostdFailure }
  | { readonly id: number; readonly progress: string };

const id = z.int().check(z.nonnegative());

export const hostdHelloSchema: z.ZodMiniType<HostdHello> = z.strictObject({
  id: z.literal(0),
  op: z.literal("Hello"),
  protocol: z.literal("mvm-hostd"),
  version: z.int(),
  role: z.enum(["agentd", "hostd"]),
});

export const hostdMessageSchema: z.ZodMiniType<HostdMessage> = z.union([
  z.strictObject({ id, ok: z.literal(true), result: z.unknown() }),
  z.strictObject({
    id,
    error: z.strictObject({
      code: z.string(),
      message: z.string(),
      details: z.strictObject({ hint: z.optional(z.string()) }),
    }),
  }),
  z.strictObject({ id, progress: z.string() }),
]);

/** The head of a request; what else it has depends on its operation. */
export const hostdRequestHeadSchema: z.ZodMiniType<{ readonly id: number; readonly op: string }> =
  z.looseObject({ id, op: z.string().check(z.maxLength(64)) });

export function hostdHello(role: HostdHello["role"]): HostdHello {
  return { id: 0, op: "Hello", protocol: "mvm-hostd", version: hostdProtocolVersion, role };
}
