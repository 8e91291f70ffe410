interface Writable {
  write(text: string | Uint8Array): unknown;
}

/** Data goes to standard output, everything else to standard error. */
export class Output {
  readonly #stdout: Writable;
  readonly #stderr: Writable;

  constructor(stdout: Writable, stderr: Writable) {
    this.#stdout = stdout;
    this.#stderr = stderr;
  }

  data(text: string): void {
    this.#stdout.write(`${text}\n`);
  }

  json(value: unknown): void {
    this.data(JSON.stringify(value, undefined, 2));
  }

  /** One plain line a step, with the time, for a person who waits or a log. */
  progress(line: string): void {
    this.#stderr.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`);
  }

  /** Bytes of a command in a guest, as they come. */
  raw(stream: "stdout" | "stderr", bytes: Uint8Array): void {
    (stream === "stdout" ? this.#stdout : this.#stderr).write(bytes);
  }

  note(line: string): void {
    this.#stderr.write(`${line}\n`);
  }
}

/** Rows under headings, columns padded to their widest cell. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [headings, ...rows];
  const widths = headings.map((_, column) =>
    Math.max(...all.map((row) => (row[column] ?? "").length)),
  );
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** `2 h 5 min`, `40 s`: how long ago a time was. */
export function age(since: string | null, nowMs: number): string {
  if (since === null) return "-";
  const seconds = Math.max(0, Math.floor((nowMs - Date.parse(since)) / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d`;
}
