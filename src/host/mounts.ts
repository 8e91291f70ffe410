import { readFile } from "node:fs/promises";

/** The folders on which something is mounted in the mount namespace of this process, as real paths. */
export async function mountPoints(): Promise<string[]> {
  return parseMountPoints(await readFile("/proc/self/mountinfo", "utf8"));
}

/** The mount points in a text of the form of proc_pid_mountinfo(5). */
export function parseMountPoints(mountinfo: string): string[] {
  const fields = mountinfo.split("\n").map((line) => line.split(" ")[4]);
  return fields.filter((field) => field !== undefined).map(unescape);
}

/** The kernel writes a space, a tab, a newline and a backslash as three octal digits. */
function unescape(field: string): string {
  return field.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
