import type { HostdHandlers } from "../../ports/hostd.ts";
import type { HostdContext } from "./context.ts";
import { driveHandlers } from "./drive-handlers.ts";
import { imageHandlers } from "./image-handlers.ts";
import { networkHandlers } from "./network-handlers.ts";
import { vmmHandlers } from "./vmm-handlers.ts";

/** What hostd does for each operation of the table. It trusts nothing that it can derive or look up itself. */
export function hostdHandlers(context: HostdContext): HostdHandlers {
  return {
    Describe: async () => ({
      capabilities: context.vmm.capabilities,
      vmUidBase: context.settings.vmUidBase,
    }),
    HostInventory: () => context.inventory.found(),
    ...vmmHandlers(context),
    ...driveHandlers(context),
    ...networkHandlers(context),
    ...imageHandlers(context),
  };
}
