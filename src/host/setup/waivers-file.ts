import { constants, promises } from "node:fs";
import { dirname } from "node:path";
import { TomlDate } from "smol-toml";
import * as z from "zod";
import { NotTrustedError, OperationError, UsageError, isSystemError } from "../../domain/errors.ts";
import { parsedText } from "../../domain/parsed-text.ts";
import { type Waiver, parseWaivablePromise } from "../../domain/production.ts";
import { TomlTextError, parseToml, problemsWithPlaces } from "../../domain/toml-text.ts";
import { isErrno } from "../files.ts";

const maxBytes = 64 * 1024;
const maxReasonLength = 500;
const maxToldProblems = 10;
/** Write permission of group and others; see inode(7). */
const othersMayWrite = 0o022;

const hint = "docs/production.md tells what waivers say; until this is mended, none holds";
const timeWanted = "a time with its offset is wanted, such as 2027-01-31T00:00:00Z, without quotes";

const fileSchema = z.strictObject({
  waive: z
    .array(
      z.strictObject({
        promise: parsedText(parseWaivablePromise),
        reason: z
          .string()
          .trim()
          .min(1, "somebody has to be able to read why")
          .max(maxReasonLength)
          .regex(/^[^\p{Cc}]*$/u, "a single line is wanted"),
        // A day, or a time without its offset, would end at another time for each who reads it.
        until: z
          .instanceof(TomlDate, { error: timeWanted })
          .refine((time) => time.isValid() && time.isDateTime() && !time.isLocal(), timeWanted),
      }),
    )
    .max(64)
    .default([]),
});

/**
 * The waivers of a file; none when there is no file. Ended ones are among them: who judges them knows the time.
 * The file counts as a whole or not at all: who meant to waive one thing has said nothing that can be believed
 * about another.
 *
 * @param trustedUid the one user who may have written it. @throws NotTrustedError when others could have;
 * UsageError that names every problem with its place; OperationError when it cannot be read.
 */
export async function readWaivers(path: string, trustedUid = 0): Promise<Waiver[]> {
  const text = await readTrusted(path, trustedUid);
  if (text === undefined) return [];
  const parsed = fileSchema.safeParse(valueOf(path, text));
  if (!parsed.success) throw unusable(path, problemsWithPlaces(parsed.error, "the file"));
  const waivers = parsed.data.waive.map(({ promise, reason, until }) => ({
    promise,
    reason,
    untilMs: until.getTime(),
  }));
  const names = waivers.map(({ promise }) => promise);
  const twice = names.flatMap((name, index) =>
    names.indexOf(name) < index ? [`waive[${index}].promise: ${name} is there twice`] : [],
  );
  if (twice.length > 0) throw unusable(path, twice);
  return waivers;
}

/** The text of a file that only one user can have written, checked on the open file: its name may lead to another by then. */
async function readTrusted(path: string, trustedUid: number): Promise<string | undefined> {
  let file;
  try {
    file = await promises.open(
      path,
      constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
    );
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    if (!isSystemError(error)) throw error;
    if (isErrno(error, "ELOOP")) throw refused(`${path} is a link`, "put the file itself there");
    throw new OperationError(`${path} cannot be read`, { cause: error, hint });
  }
  try {
    const found = await file.stat();
    if (!found.isFile()) throw refused(`${path} is no plain file`, `rm -r ${path}`);
    const folder = dirname(path);
    for (const [name, { uid, mode }] of [
      [path, found],
      // Else somebody could put an older file of root's own back in its place.
      [folder, await promises.stat(folder)],
    ] as const) {
      if (uid === trustedUid && (mode & othersMayWrite) === 0) continue;
      throw refused(`others than root can write ${name}`, `chown root ${name}; chmod go-w ${name}`);
    }
    const bytes = Buffer.alloc(maxBytes + 1);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    if (bytesRead > maxBytes) throw unusable(path, ["it is longer than 64 KiB"]);
    return bytes.toString("utf8", 0, bytesRead);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new OperationError(`${path} cannot be read`, { cause: error, hint });
  } finally {
    await file.close();
  }
}

function valueOf(path: string, text: string): unknown {
  try {
    return parseToml(text);
  } catch (error) {
    if (!(error instanceof TomlTextError)) throw error;
    throw unusable(path, [error.message]);
  }
}

function unusable(path: string, problems: readonly string[]): UsageError {
  const shown = problems.slice(0, maxToldProblems);
  if (shown.length < problems.length) shown.push(`and ${problems.length - shown.length} more`);
  return new UsageError(`${path} cannot be used: ${shown.join("; ")}`, { hint });
}

function refused(message: string, mend: string): NotTrustedError {
  return new NotTrustedError(`${message}: no waiver in it is believed`, { hint: mend });
}
