/** Slips that are still taken for a slip: one in so many characters, and always one. */
const charactersASlip = 3;

/**
 * Of the names there are, the one that was probably meant: the fewest slips away, the first of several;
 * undefined when none is near. A slip is a character too many, too few or wrong, or two that changed places.
 */
export function nearestName(given: string, names: Iterable<string>): string | undefined {
  let nearest: string | undefined;
  let fewest = Infinity;
  for (const name of names) {
    const allowed = Math.max(1, Math.floor(Math.max(given.length, name.length) / charactersASlip));
    const limit = Math.min(allowed, fewest - 1);
    if (Math.abs(given.length - name.length) > limit) continue;
    const slips = slipsBetween(given, name);
    if (slips > limit) continue;
    nearest = name;
    fewest = slips;
  }
  return nearest;
}

/** What to do next about a name that is not there: the one that was probably meant, and where all are. */
export function hintOfNames(given: string, names: Iterable<string>, listing: string): string {
  const meant = nearestName(given, names);
  return meant === undefined ? `see: ${listing}` : `did you mean ${meant}? See: ${listing}`;
}

/** The optimal string alignment distance; rows of the matrix are kept as long as they are needed. */
function slipsBetween(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const isSame = a[i - 1] === b[j - 1];
      let slips = Math.min(at(last, j) + 1, at(row, j - 1) + 1, at(last, j - 1) + (isSame ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        slips = Math.min(slips, at(beforeLast, j - 2) + 1);
      }
      row.push(slips);
    }
    beforeLast = last;
    last = row;
  }
  return at(last, b.length);
}

function at(row: readonly number[], column: number): number {
  return row[column] ?? Infinity;
}
