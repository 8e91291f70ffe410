import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import * as z from "zod/mini";
import { HostLacksError, OperationError } from "../../domain/errors.ts";
import type { AcceptedDesired, DesiredStore } from "../../ports/desired-store.ts";
import { readFileIfAny, writeFileAtomic } from "../files.ts";
import { type Roots, agentFolder } from "../roots.ts";
import { readNodeId } from "../setup/identity.ts";
import { readTrustedKeys } from "../setup/trusted-keys.ts";
import { ensureAgentFolder } from "../state-owner.ts";

const hash = z.string().check(z.regex(/^[0-9a-f]{64}$/));

const fileSchema = z.lazy(() =>
  z.strictObject({
    schema_version: z.literal(1),
    document: z.base64(),
    hash,
    accepted_at: z.iso.datetime(),
    signed: z.nullable(z.strictObject({ generation: z.int().check(z.gte(1)), hash })),
    key_id: z.nullable(z.string()),
  }),
);

/** The document in force in `agent/desired.json` of the state folder, 0600, whole with its generation. */
export class FileDesiredStore implements DesiredStore {
  readonly #roots: Roots;

  constructor(roots: Roots) {
    this.#roots = roots;
  }

  async nodeId(): Promise<string> {
    const id = await readNodeId(this.#roots.stateDir);
    if (id !== undefined) return id;
    throw new HostLacksError("this machine is no node yet: it has no id", {
      hint: "prepare it: mvm add host",
    });
  }

  async trustedKeys(): Promise<readonly Uint8Array[]> {
    return readTrustedKeys(this.#roots.configDir);
  }

  async load(): Promise<AcceptedDesired | undefined> {
    const text = await readFileIfAny(this.#path);
    if (text === undefined) return undefined;
    try {
      const { schema_version: _, document, ...rest } = fileSchema.parse(JSON.parse(text));
      const bytes = Buffer.from(document, "base64");
      if (createHash("sha256").update(bytes).digest("hex") === rest.hash) {
        return { ...rest, document: bytes };
      }
      throw new OperationError("the document in it is not the one that was taken");
    } catch (error) {
      const isKnown =
        error instanceof SyntaxError ||
        error instanceof z.core.$ZodError ||
        error instanceof OperationError;
      if (!isKnown) throw error;
      throw new OperationError(`${this.#path} cannot be used: it is not as it was written`, {
        hint: "restore it from a backup; without it an old document could be taken again",
        cause: error,
      });
    }
  }

  async save(accepted: AcceptedDesired): Promise<void> {
    const { document, ...rest } = accepted;
    const file = {
      schema_version: 1,
      document: Buffer.from(document).toString("base64"),
      ...rest,
    };
    await ensureAgentFolder(this.#roots, dirname(this.#path));
    await writeFileAtomic(this.#path, `${JSON.stringify(file)}\n`, 0o600);
  }

  get #path(): string {
    return join(agentFolder(this.#roots), "desired.json");
  }
}
