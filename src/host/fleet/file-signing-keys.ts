import { type KeyObject, createPrivateKey, generateKeyPairSync } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { ConflictError, NotFoundError, NotTrustedError } from "../../domain/errors.ts";
import type { SigningKeys } from "../../ports/signing-keys.ts";
import { rawPublicKey } from "../../protocol/signed-desired.ts";
import { readFileIfAny, writeFileAtomic } from "../files.ts";

/** `signing.key` (PKCS #8 PEM, 0600) and `coordinator.pub` (base64 of 32 bytes) in the coordinator's folder. */
export class FileSigningKeys implements SigningKeys {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async generate(): Promise<{ readonly publicKey: string; readonly path: string }> {
    const key = join(this.#folder, "signing.key");
    const path = join(this.#folder, "coordinator.pub");
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const present = await readFileIfAny(key);
    const publicPresent = await readFileIfAny(path);
    if (present !== undefined && publicPresent !== undefined) {
      throw new ConflictError(`there is a signing key in ${this.#folder} already`, {
        hint: "it is never overwritten, since nodes believe it; its public half is coordinator.pub beside it",
      });
    }
    // A run that died between the two files left the private key: its public half follows from it.
    const privateKey =
      present === undefined
        ? generateKeyPairSync("ed25519").privateKey
        : parsePrivateKey(present, key);
    if (present === undefined) {
      const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
      await writeFileAtomic(key, pem, 0o600);
    }
    const publicKey = rawPublicKey(privateKey).toString("base64");
    await writeFileAtomic(path, `${publicKey}\n`, 0o644);
    return { publicKey, path };
  }

  async load(path?: string): Promise<KeyObject | undefined> {
    const file = path ?? join(this.#folder, "signing.key");
    const pem = await readFileIfAny(file);
    if (pem !== undefined) return parsePrivateKey(pem, file);
    if (path === undefined) return undefined;
    throw new NotFoundError(`there is no signing key ${path}`, {
      hint: "make one with: mvm coordinator keygen",
    });
  }
}

function parsePrivateKey(pem: string, file: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch (error) {
    // OpenSSL's codes for what it cannot read differ from one version to the next.
    if (!(error instanceof Error)) throw error;
    throw new NotTrustedError(`${file} holds no private key in PEM form`, { cause: error });
  }
  if (key.asymmetricKeyType === "ed25519") return key;
  throw new NotTrustedError(`${file} holds no Ed25519 key`, {
    hint: "make one with: mvm coordinator keygen",
  });
}
