import type { NetNamespace } from "./net-namespace.ts";

/** How often frames of a kind left one namespace and came to another. */
export interface FrameCounts {
  readonly sent: number;
  readonly arrived: number;
}

export interface CraftedFrame {
  /** nft statements that make another frame of what leaves the sender's eth0. */
  readonly change: string;
  /** An nft match that knows the frame again. */
  readonly match: string;
}

/**
 * Changes what leaves a namespace's eth0 while `trigger` makes it send, and counts the changed frames
 * at both ends: any frame can be had without a raw socket, and what arrives is seen before anything
 * of the receiver judges it.
 */
export async function sendCrafted(
  [from, to]: readonly [NetNamespace, NetNamespace],
  { change, match }: CraftedFrame,
  trigger: () => Promise<unknown>,
): Promise<FrameCounts> {
  await to.run("nft", ["-f", "-"], { input: counting("ingress", 0, match) });
  await from.run("nft", ["-f", "-"], {
    input: `${counting("egress", 10, match)}table netdev mvm_test {
	chain change {
		type filter hook egress device "eth0" priority 0;
		${change}
	}
}
`,
  });
  try {
    await trigger();
    return { sent: await counted(from), arrived: await counted(to) };
  } finally {
    for (const namespace of [from, to]) {
      await namespace.run("nft", ["delete", "table", "netdev", "mvm_test"]);
    }
  }
}

/** How many frames that match come to a namespace's eth0 while `trigger` is at work, answered or not. */
export async function countArriving(
  at: NetNamespace,
  match: string,
  trigger: () => Promise<unknown>,
): Promise<number> {
  await at.run("nft", ["-f", "-"], { input: counting("ingress", 0, match) });
  try {
    await trigger();
    return await counted(at);
  } finally {
    await at.run("nft", ["delete", "table", "netdev", "mvm_test"]);
  }
}

function counting(hook: "ingress" | "egress", priority: number, match: string): string {
  return `table netdev mvm_test {
	chain seen {
		type filter hook ${hook} device "eth0" priority ${priority};
		${match} counter
	}
}
`;
}

async function counted(namespace: NetNamespace): Promise<number> {
  const chain = await namespace.run("nft", ["list", "chain", "netdev", "mvm_test", "seen"]);
  return Number(/counter packets (\d+)/.exec(chain)?.[1]);
}
