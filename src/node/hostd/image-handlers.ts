import type { HostdCall, HostdHandlers } from "../../ports/hostd.ts";
import type { BuildRequest } from "../../ports/image-builder.ts";
import type { BuildNames } from "../../protocol/hostd-operations.ts";
import type { HostdContext } from "./context.ts";

type ImageHandlers = Pick<
  HostdHandlers,
  | "BuildKey"
  | "Build"
  | "BuildLeftovers"
  | "BuildSweep"
  | "BuildRetainStores"
  | "ImagesCollect"
  | "KeyStatus"
  | "KeyEnsure"
  | "KeyReplace"
  | "KeyRemove"
>;

export function imageHandlers(context: HostdContext): ImageHandlers {
  const { builder, images, keys, turns } = context;
  return {
    BuildKey: async ({ build }, call) => {
      await context.requireFlake(build.flakeRef);
      return { key: await builder.key(requestOf(build, call)) };
    },
    Build: async ({ build }, call) => {
      await context.requireFlake(build.flakeRef);
      await context.requirePromises();
      return { revision: await builder.build(requestOf(build, call)) };
    },
    BuildLeftovers: async () => ({ lines: await builder.leftovers() }),
    BuildSweep: async () => ({ lines: await builder.sweep() }),
    BuildRetainStores: async ({ tenants }) => {
      await builder.retainStores(new Set(tenants));
      return {};
    },
    ImagesCollect: async ({ kept }) => ({ removed: await images.collect(new Set(kept)) }),
    KeyStatus: async ({ tenant }) => keys.status(tenant),
    // A tenant may have the name of an instance, and its key's turn must not be that one's.
    KeyEnsure: ({ tenant }) =>
      turns.of(`key ${tenant}`, async () => ({ made: await keys.ensure(tenant) })),
    KeyReplace: ({ tenant, key }) =>
      turns.of(`key ${tenant}`, async () => {
        await keys.replace(tenant, Buffer.from(key, "base64"));
        return {};
      }),
    KeyRemove: ({ tenant }) =>
      turns.of(`key ${tenant}`, async () => {
        await keys.remove(tenant);
        return {};
      }),
  };
}

/** A build that nobody waits for any more ends. */
function requestOf(build: BuildNames, call: HostdCall): BuildRequest {
  const { storeOf, ...rest } = build;
  return {
    ...rest,
    ...(storeOf === null ? {} : { storeOf }),
    signal: call.unwanted,
    onProgress: (line) => call.progress(line),
  };
}
