import { QemuVmm } from "../../src/host/vmm/qemu/qemu-vmm.ts";
import { instanceRunRoot } from "../../src/host/roots.ts";
import type { TestRoots } from "../test-host.ts";

const pollMs = 200;

/** Looks at a node's VMMs all the time, and notes each instance that had two at once. */
export class VmmWatch implements Disposable {
  /** Ids of instances that were seen with more than one VMM. */
  readonly twice: string[] = [];
  readonly #vmm = new QemuVmm(() => Promise.reject(new Error("it is only asked for what runs")));
  readonly #runRoot: string;
  readonly #timer: NodeJS.Timeout;
  #looking = false;

  constructor(roots: TestRoots) {
    this.#runRoot = instanceRunRoot(roots);
    this.#timer = setInterval(() => void this.#look(), pollMs);
  }

  /** The ids of the instances that have a VMM now. */
  async list(): Promise<string[]> {
    return (await this.#vmm.list(this.#runRoot)).map(({ id }) => id);
  }

  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    const ids = await this.list();
    this.#looking = false;
    this.twice.push(...ids.filter((id, index) => ids.indexOf(id) !== index));
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
