import { statusOf } from "../domain/instance.ts";
import type { AuditTrail } from "../ports/audit.ts";
import type { DesiredStore } from "../ports/desired-store.ts";
import type { Drives } from "../ports/drives.ts";
import type { ImageBuilder } from "../ports/image-builder.ts";
import type { Network } from "../ports/network.ts";
import type { SecretStore } from "../ports/secret-store.ts";
import type { Store } from "../ports/store.ts";
import type { TenantKeys } from "../ports/tenant-keys.ts";
import type { Vmm } from "../ports/vmm.ts";

type Method = (...args: never[]) => Promise<unknown>;
type NameOf = (...args: never[]) => string;

/** For each method of a port that is a point, the point's name from the call's arguments. */
type PointNames<P> = {
  readonly [M in keyof P as P[M] extends Method ? M : never]?: P[M] extends Method
    ? (...args: Parameters<P[M]>) => string
    : never;
};

/**
 * The points at which a process can be made to die, for tests of what the next one makes of it: right
 * after each intent was written down, and right after each effect on the host. A point is named by what
 * was written or done, such as `start:vmm` or `vmm:started`. The ports are wrapped where they are put
 * together, so that the engine knows nothing of it; without a wish to die they are not touched at all.
 */
export class CrashPoints {
  readonly #pass: ((point: string) => void) | undefined;

  /** `pass` is told each point that is passed and may end the process; without it no port is wrapped. */
  constructor(pass: ((point: string) => void) | undefined) {
    this.#pass = pass;
  }

  store(store: Store): Store {
    return this.#wrap(store, {
      saveTenant: ({ destroying }) => (destroying ? "tenant:destroying" : "tenant"),
      savePool: ({ revisions }) => (revisions.length === 0 ? "pool" : "pool:image"),
      saveInstance: (instance) => {
        const { operation } = instance;
        return operation === null
          ? `instance:${statusOf(instance)}`
          : `${operation.kind}:${operation.step}`;
      },
      remove: (address) =>
        "instance" in address
          ? "instance:removed"
          : "pool" in address
            ? "pool:removed"
            : "tenant:removed",
      useNetId: (netId) => (netId === undefined ? "net-id:asked" : "net-id:used"),
    });
  }

  secrets(secrets: SecretStore): SecretStore {
    return this.#wrap(secrets, { save: () => "secrets" });
  }

  desired(desired: DesiredStore): DesiredStore {
    return this.#wrap(desired, { save: () => "desired:accepted" });
  }

  /** A line is on disk before the record that it tells of. */
  audit(audit: AuditTrail): AuditTrail {
    return this.#wrap(audit, { append: (_tenant, { type }) => `audit:${type}` });
  }

  keys(keys: TenantKeys): TenantKeys {
    return this.#wrap(keys, {
      ensure: () => "key:made",
      replace: () => "key:replaced",
      remove: () => "key:removed",
    });
  }

  builder(builder: ImageBuilder): ImageBuilder {
    return this.#wrap(builder, { build: () => "image:built", sweep: () => "image:swept" });
  }

  drives<D extends Drives>(drives: D): D {
    return this.#wrap<Drives>(drives, {
      prepare: () => "drives:prepared",
      release: () => "drives:released",
      destroy: () => "drives:destroyed",
      wipeTenant: () => "drives:wiped",
    }) as D;
  }

  network(network: Network): Network {
    return this.#wrap(network, { apply: () => "network:applied" });
  }

  vmm(vmm: Vmm): Vmm {
    return this.#wrap(vmm, {
      start: ({ id }) => (id.startsWith("i-") ? "vmm:started" : "builder:started"),
      pause: () => "vmm:paused",
      resume: () => "vmm:resumed",
      stop: ({ id }) => (id.startsWith("i-") ? "vmm:stopped" : "builder:stopped"),
    });
  }

  /** The same port, but after a named method has done its work the point is passed. */
  #wrap<P extends object>(port: P, names: PointNames<P>): P {
    const pass = this.#pass;
    if (pass === undefined) return port;
    return new Proxy(port, {
      get: (target, key): unknown => {
        // With the port itself as `this`: a class reaches its private fields through nothing else.
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== "function") return value;
        const name = (names as Readonly<Record<PropertyKey, NameOf | undefined>>)[key];
        if (name === undefined) return value.bind(target) as unknown;
        return async (...args: never[]): Promise<unknown> => {
          const result = await (value as Method).apply(target, args);
          pass(name(...args));
          return result;
        };
      },
    });
  }
}
