/** Makes bad input of good input, the same for the same numbers. */
export class Mutations {
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  pick<T>(list: readonly T[]): T {
    const one = list[this.below(list.length)];
    if (one === undefined) throw new Error("there is nothing to pick from");
    return one;
  }

  /** Flips, cuts out, doubles and inserts a few bytes. */
  bytes(good: Uint8Array): Buffer {
    let bytes = Buffer.from(good);
    for (let count = 1 + this.below(4); count > 0; count -= 1) {
      const at = this.below(bytes.length + 1);
      const length = this.below(16);
      const before = bytes.subarray(0, at);
      const piece = bytes.subarray(at, at + length);
      const after = bytes.subarray(at + length);
      switch (this.below(4)) {
        case 0:
          if (at < bytes.length) bytes[at] = this.below(256);
          break;
        case 1:
          bytes = Buffer.concat([before, after]);
          break;
        case 2:
          bytes = Buffer.concat([before, piece, piece, after]);
          break;
        default:
          bytes = Buffer.concat([
            before,
            Buffer.from(Array.from({ length }, () => this.below(256))),
            piece,
            after,
          ]);
      }
    }
    return bytes;
  }

  /** Changes one place of a JSON value: another type, another size, a field gone, new or twice as deep. */
  json(good: unknown): unknown {
    if (Array.isArray(good) && good.length > 0 && this.below(3) > 0) {
      const at = this.below(good.length);
      return good.map((item: unknown, index) => (index === at ? this.json(item) : item));
    }
    if (typeof good === "object" && good !== null && this.below(4) > 0) {
      const entries = Object.entries(good);
      const at = this.below(entries.length + 1);
      if (at === entries.length) return { ...good, [this.#name()]: this.#value() };
      return Object.fromEntries(
        entries.flatMap(([name, value], index) => {
          if (index !== at) return [[name, value]];
          return this.below(5) === 0 ? [] : [[name, this.json(value)]];
        }),
      );
    }
    return this.#value();
  }

  #name(): string {
    return this.pick(["__proto__", "constructor", "toString", "", "op", "id", "x", "\u0000", "Á"]);
  }

  #value(): unknown {
    return this.pick<() => unknown>([
      () => null,
      () => true,
      () => -1,
      () => 1.5,
      () => 1e308,
      () => Number.MAX_SAFE_INTEGER + 1,
      () => "",
      () => "\u0000\u202e/../..",
      () => "a".repeat(70_000),
      () => [],
      () => ({}),
      () => Array.from({ length: 200 }, () => ({})),
      () => nested(this.below(3000)),
    ])();
  }
}

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let level = 0; level < depth; level += 1) value = [value];
  return value;
}
