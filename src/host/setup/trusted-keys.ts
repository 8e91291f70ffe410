import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { NotTrustedError } from "../../domain/errors.ts";
import { parseSigningKey } from "../../domain/signing-key.ts";
import { signingKeyId } from "../../protocol/signed-desired.ts";
import { listFolderIfAny, readFileIfAny, writeFileAtomic } from "../files.ts";

/** A coordinator's Ed25519 public key that this node believes. */
export interface TrustedKey {
  /** Of the key's hash: what a file of it is named, and how people tell keys apart. */
  readonly id: string;
  readonly path: string;
}

/** Adds a key to those this node believes; one that is there already stays as it is, and others stay beside it. */
export async function trustKey(
  configDir: string,
  key: Uint8Array,
): Promise<TrustedKey & { readonly added: boolean }> {
  const folder = trustedKeysFolder(configDir);
  const id = signingKeyId(key);
  const content = `${Buffer.from(key).toString("base64")}\n`;
  for (const { path, text } of await readKeys(folder)) {
    if (text.trim() === content.trim()) return { id, path, added: false };
  }
  await mkdir(folder, { recursive: true, mode: 0o755 });
  const path = join(folder, `${id}.pub`);
  await writeFileAtomic(path, content, 0o644);
  return { id, path, added: true };
}

/** How many keys this node believes, and which files beside them hold none. */
export async function listTrustedKeys(
  configDir: string,
): Promise<{ readonly keys: number; readonly broken: readonly string[] }> {
  const { keys, broken } = await parseKeys(configDir);
  return { keys: keys.length, broken };
}

/** The keys this node believes, 32 bytes each. */
export async function readTrustedKeys(configDir: string): Promise<Buffer[]> {
  return (await parseKeys(configDir)).keys;
}

/** The folder of the keys and each file of one: who can write them decides who is believed. */
export async function trustedKeyPaths(configDir: string): Promise<string[]> {
  const folder = trustedKeysFolder(configDir);
  return [folder, ...(await readKeys(folder)).map(({ path }) => path)];
}

async function parseKeys(configDir: string): Promise<{ keys: Buffer[]; broken: string[] }> {
  const keys: Buffer[] = [];
  const broken: string[] = [];
  for (const { path, text } of await readKeys(trustedKeysFolder(configDir))) {
    try {
      keys.push(parseSigningKey(text));
    } catch (error) {
      if (!(error instanceof NotTrustedError)) throw error;
      broken.push(path);
    }
  }
  return { keys, broken };
}

async function readKeys(folder: string): Promise<{ path: string; text: string }[]> {
  const names = (await listFolderIfAny(folder)).filter((name) => /^[^.].*\.pub$/.test(name));
  return Promise.all(
    names.map(async (name) => {
      const path = join(folder, name);
      return { path, text: (await readFileIfAny(path)) ?? "" };
    }),
  );
}

function trustedKeysFolder(configDir: string): string {
  return join(configDir, "trusted_keys");
}
