import type { ReadStream, WriteStream } from "node:tty";
import type { ExecTerminal } from "../ports/guest-link.ts";
import type { TerminalSize } from "../protocol/guest-requests.ts";

/** What a terminal has that does not tell its size. */
const usualSize: TerminalSize = { rows: 24, cols: 80 };

/** The terminal a person sits at. */
export interface LocalTerminal extends ExecTerminal {
  /** Raw: each key goes on at once, without an echo, and Ctrl-C is a key like others. */
  setRaw(raw: boolean): void;
}

/**
 * The terminal of the standard streams, or undefined when standard input is none. Its size is that of the
 * first stream of output which is a terminal.
 */
export function localTerminal(process: {
  readonly stdin: Pick<ReadStream, "isTTY" | "setRawMode">;
  readonly stdout: Pick<WriteStream, "isTTY" | "getWindowSize">;
  readonly stderr: Pick<WriteStream, "isTTY" | "getWindowSize">;
  on(signal: "SIGWINCH", listener: () => void): unknown;
  off(signal: "SIGWINCH", listener: () => void): unknown;
}): LocalTerminal | undefined {
  if (!process.stdin.isTTY) return undefined;
  return {
    setRaw: (raw) => void process.stdin.setRawMode(raw),
    size: () => {
      const screen = [process.stdout, process.stderr].find(({ isTTY }) => isTTY);
      const [cols, rows] = screen?.getWindowSize() ?? [0, 0];
      // A serial line, or what a program runs another one on, may have none.
      return cols > 0 && rows > 0 ? { rows, cols } : usualSize;
    },
    onResize: (listener) => {
      process.on("SIGWINCH", listener);
      return () => void process.off("SIGWINCH", listener);
    },
  };
}
