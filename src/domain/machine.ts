import type { InstanceAddress } from "./ids.ts";

/**
 * What an instance's microVM is, by names and numbers alone. Paths, addresses, the user it runs as and
 * the words of its kernel all follow from these: whoever may start one needs to be told no more.
 */
export interface Machine {
  readonly instance: InstanceAddress;
  /** Of its tenant, 0..4095. */
  readonly netId: number;
  /** The last number of its address, 2..254. */
  readonly offset: number;
  readonly vcpus: number;
  readonly memMib: number;
  /** The image it boots from, 64 hex digits. */
  readonly revision: string;
  /** Whether it is given its config and its secrets. */
  readonly hasConfig: boolean;
  readonly hasData: boolean;
}
