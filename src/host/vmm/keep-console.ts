/**
 * The program of a console's keeper. Copies what comes on descriptor 3, 4, … to the file named for it, and
 * keeps the last part of each: a file that has grown to twice what is kept is replaced by its own end, in
 * one step. A write that fails, as on a full disk, loses those bytes and nothing else. It ends when nobody
 * can write to it any more.
 *
 * Arguments: the keeper's name, the bytes to keep, the paths. It runs as the text of this function in a
 * process of its own, so nothing outside of it can be used.
 */
export function keepConsole(): void {
  const fs = process.getBuiltinModule("node:fs");
  const { Socket } = process.getBuiltinModule("node:net");
  const { O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = fs.constants;
  const [, keptText, ...paths] = process.argv.slice(1);
  const keptBytes = Number(keptText);
  for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"]) process.on(signal, () => undefined);

  /** @returns undefined when the system refuses. */
  const attempt = <T>(work: () => T): T | undefined => {
    try {
      return work();
    } catch (error) {
      if (error instanceof Error && "syscall" in error) return undefined;
      throw error;
    }
  };
  const lastPartOf = (path: string): Buffer => {
    const file = fs.openSync(path, O_RDONLY | O_NOFOLLOW);
    try {
      const part = Buffer.alloc(keptBytes);
      const length = fs.readSync(file, part, 0, keptBytes, fs.fstatSync(file).size - keptBytes);
      return part.subarray(0, length);
    } finally {
      fs.closeSync(file);
    }
  };
  const writeWhole = (path: string, bytes: Buffer): boolean => {
    fs.rmSync(path, { force: true });
    const file = fs.openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      return fs.writeSync(file, bytes) === bytes.length;
    } finally {
      fs.closeSync(file);
    }
  };

  paths.forEach((path, index) => {
    let output: number | undefined;
    let size = 0;
    const reopen = (): void => {
      if (output !== undefined) fs.closeSync(output);
      const flags = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW;
      output = attempt(() => fs.openSync(path, flags, 0o600));
      size = output === undefined ? 0 : fs.fstatSync(output).size;
    };
    const shorten = (file: number): void => {
      const next = `${path}.new`;
      const replaced = attempt(() => {
        if (!writeWhole(next, lastPartOf(path))) return false;
        fs.renameSync(next, path);
        return true;
      });
      if (replaced === true) {
        reopen();
        return;
      }
      // No room for both: the bound matters more than what was there.
      attempt(() => fs.rmSync(next, { force: true }));
      attempt(() => fs.ftruncateSync(file, 0));
      size = 0;
    };
    reopen();
    const input = new Socket({ fd: 3 + index, readable: true });
    input.on("data", (bytes: Buffer) => {
      if (output === undefined) reopen();
      const file = output;
      if (file === undefined) return;
      size += attempt(() => fs.writeSync(file, bytes)) ?? 0;
      if (size > 2 * keptBytes) shorten(file);
    });
    // Whoever printed was killed in the middle: what it said before is written.
    input.on("error", () => input.destroy());
  });
}
