/** One line of the table, and one object of `--json`. */
export interface Result {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** The value must not be greater. */
  readonly bar: number;
  readonly ok: boolean;
}

/** What was measured: each series of samples in the order in which it was taken. */
export type Samples = Readonly<Record<string, readonly number[]>>;

export interface Measurement {
  readonly results: readonly Result[];
  readonly samples: Samples;
}

/** Results that come from one and the same series of runs. */
export interface Benchmark {
  /** The names of its results, each with what it says. */
  readonly measures: Readonly<Record<string, string>>;
  /** `signal` ends it between two samples; what it made is then removed. */
  measure(say: (line: string) => void, signal: AbortSignal): Promise<Measurement>;
}

export function result(name: string, value: number, unit: string, bar: number): Result {
  const rounded = Number(value.toPrecision(4));
  return { name, value: rounded, unit, bar, ok: rounded <= bar };
}

/** @throws RangeError when there is none. */
export function median(samples: readonly number[]): number {
  const sorted = samples.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.ceil(sorted.length / 2) - 1];
  if (upper === undefined || lower === undefined) throw new RangeError("no samples");
  return (upper + lower) / 2;
}

/**
 * Runs each of several things in turn, again and again, so that whatever else the machine does falls on
 * all of them alike. Each returns its own measure; the first round is not counted.
 */
export async function interleaved<Name extends string>(
  rounds: number,
  runs: Readonly<Record<Name, () => Promise<number> | number>>,
  signal?: AbortSignal,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(runs) as Name[];
  const samples = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<
    Name,
    number[]
  >;
  for (let round = 0; round <= rounds; round += 1) {
    for (const name of names) {
      signal?.throwIfAborted();
      const sample = await runs[name]();
      if (round > 0) samples[name].push(sample);
    }
  }
  return samples;
}
