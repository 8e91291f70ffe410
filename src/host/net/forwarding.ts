import { mkdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import * as z from "zod";
import { OperationError } from "../../domain/errors.ts";
import { readFileIfAny, writeFileAtomic } from "../files.ts";

/** The network namespace of a process has its own view of /proc/sys/net, whatever is mounted on /sys. */
const ipForwardPath = "/proc/sys/net/ipv4/ip_forward";

/** What a record of the network belongs to: a boot, and a network namespace of it. */
interface Place {
  readonly boot_id: string;
  readonly network_namespace: string;
}

const formerSchema = z.object({
  schema_version: z.literal(1),
  boot_id: z.string(),
  network_namespace: z.string(),
  ip_forward: z.enum(["0", "1"]),
});
type Former = z.infer<typeof formerSchema>;

/** Turns IPv4 forwarding on. What it was before is in the file at `recordPath` before it changes. */
export async function turnForwardingOn(recordPath: string): Promise<void> {
  const place = await currentPlace();
  const former = await readFormer(recordPath);
  // A record of an earlier boot or another namespace says nothing about what this one had.
  if (former === undefined || !isOf(former, place)) {
    const record: Former = { schema_version: 1, ...place, ip_forward: await readForwarding() };
    await mkdir(dirname(recordPath), { recursive: true });
    await writeFileAtomic(recordPath, `${JSON.stringify(record)}\n`, 0o600);
  }
  await writeForwarding("1");
}

/** Puts IPv4 forwarding back to what it was before `turnForwardingOn`, if that was done in this boot and namespace. */
export async function restoreForwarding(recordPath: string): Promise<void> {
  const former = await readFormer(recordPath);
  if (former === undefined) return;
  if (isOf(former, await currentPlace())) await writeForwarding(former.ip_forward);
  await rm(recordPath, { force: true });
}

/** Whether this namespace forwards IPv4. */
export async function isForwardingOn(): Promise<boolean> {
  return (await readForwarding()) === "1";
}

/** What names this network namespace until the next boot. */
export async function networkNamespaceId(): Promise<string> {
  return await readlink("/proc/self/ns/net");
}

/** This boot and this process's network namespace. */
export async function currentPlace(): Promise<Place> {
  const bootId = await readFile("/proc/sys/kernel/random/boot_id", "utf8");
  return { boot_id: bootId.trim(), network_namespace: await networkNamespaceId() };
}

function isOf(former: Former, place: Place): boolean {
  return former.boot_id === place.boot_id && former.network_namespace === place.network_namespace;
}

async function readFormer(recordPath: string): Promise<Former | undefined> {
  const text = await readFileIfAny(recordPath);
  if (text === undefined) return undefined;
  try {
    return formerSchema.parse(JSON.parse(text));
  } catch (error) {
    if (!(error instanceof SyntaxError) && !(error instanceof z.ZodError)) throw error;
    throw new OperationError(`cannot read ${recordPath}, which says what IPv4 forwarding was`, {
      hint: `set net.ipv4.ip_forward to what it should be and remove ${recordPath}`,
      cause: error,
    });
  }
}

async function readForwarding(): Promise<"0" | "1"> {
  return (await readFile(ipForwardPath, "utf8")).trim() === "1" ? "1" : "0";
}

async function writeForwarding(value: "0" | "1"): Promise<void> {
  // Writing resets the forwarding of every single link, so only when it changes something.
  if ((await readForwarding()) !== value) await writeFile(ipForwardPath, value);
}
