/** A line without terminal sequences and control characters, which a terminal might obey; tabs stay. */
export function plainLine(line: string): string {
  return (
    line
      // eslint-disable-next-line no-control-regex -- these are what it removes
      .replaceAll(/\u001B\[[0-9;?]*[ -/]*[@-~]/g, "")
      // eslint-disable-next-line no-control-regex -- these are what it removes
      .replaceAll(/[\u0000-\u0008\u000A-\u001F\u007F-\u009F]/g, "")
  );
}
