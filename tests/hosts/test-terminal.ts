import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { ExecTable } from "../../src/guest/exec-table.ts";
import type { ExecRequest, TerminalSize } from "../../src/protocol/guest-requests.ts";

const commandId = 1;

/** One command on a real terminal, with somebody who types and reads. It is made as in a guest, by script(1). */
export class TestTerminal {
  readonly table: ExecTable;
  #shown = "";

  constructor() {
    this.table = new ExecTable({
      send: (_id, { stream, data }) => {
        assert.equal(stream, "stdout");
        this.#shown += Buffer.from(data, "base64").toString();
        return true;
      },
      drained: () => Promise.resolve(),
    });
  }

  /** @returns its exit code. */
  async run(command: readonly string[], more: Partial<ExecRequest> = {}): Promise<number> {
    const plain = { id: commandId, op: "Exec", env: {}, cwd: "/", timeout_ms: 20_000 } as const;
    const terminal = { rows: 33, cols: 101 };
    return this.table.run({ ...plain, command, input: true, terminal, ...more });
  }

  async type(text: string): Promise<void> {
    const data = Buffer.from(text).toString("base64");
    await this.table.input({ id: 2, op: "ExecInput", exec_id: commandId, data, end: false });
  }

  async resize(size: TerminalSize): Promise<void> {
    await this.table.resize({ id: 3, op: "ExecResize", exec_id: commandId, ...size });
  }

  /** Ends the command as if the line to it broke. */
  cut(): void {
    this.table.cancelAll();
  }

  /**
   * What was shown, each end of line as one character: terminals in a row repeat the carriage return. Without the
   * question where the cursor is, which busybox asks and takes no answer to as one.
   */
  get shown(): string {
    return this.#shown.replaceAll(/\r+\n/g, "\n").replaceAll("\u001B[6n", "");
  }

  async until(pattern: RegExp, timeoutMs = 10_000): Promise<RegExpExecArray> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const found = pattern.exec(this.shown);
      if (found !== null) return found;
      if (performance.now() > deadlineMs) {
        throw new Error(`${pattern} was not shown: ${JSON.stringify(this.shown)}`);
      }
      await sleep(10);
    }
  }
}
