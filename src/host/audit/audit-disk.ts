import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { type AuditLogName, nodeLog } from "../../domain/audit.ts";
import { isErrno, readFileIfAny, writeFileAtomic } from "../files.ts";
import type { RecordFolders } from "../../ports/record-folders.ts";
import { type Roots, nodeAuditFolder, tenantFolder } from "../roots.ts";
import { ensureAgentFolder, recordOwner } from "../state-owner.ts";
import { HostRecordFolders } from "../store/host-record-folders.ts";

/** The two files of an audit log. What `append` wrote when the process dies may be any part of its bytes. */
export interface AuditDisk {
  /** Length of the log in bytes; undefined when there is none. */
  size(tenant: AuditLogName): Promise<number | undefined>;
  read(tenant: AuditLogName, offset: number, length: number): Promise<Buffer>;
  /** Adds bytes to the log; they are durable when it answers. */
  append(tenant: AuditLogName, bytes: string): Promise<void>;
  truncate(tenant: AuditLogName, size: number): Promise<void>;
  readHead(tenant: AuditLogName): Promise<string | undefined>;
  /** Replaces the head whole or not at all. */
  writeHead(tenant: AuditLogName, text: string): Promise<void>;
}

/** `audit.log` and `audit.head` in the tenant's folder, or in `audit` of the state folder for the node's own; 0600. */
export class AuditFiles implements AuditDisk {
  readonly #roots: Roots;
  readonly #folders: RecordFolders;

  constructor(roots: Roots, folders: RecordFolders = new HostRecordFolders(roots)) {
    this.#roots = roots;
    this.#folders = folders;
  }

  async size(tenant: AuditLogName): Promise<number | undefined> {
    return this.#withLog(tenant, constants.O_RDONLY, async (file) => (await file.stat()).size);
  }

  async read(tenant: AuditLogName, offset: number, length: number): Promise<Buffer> {
    const found = await this.#withLog(tenant, constants.O_RDONLY, async (file) => {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset);
      return buffer.subarray(0, bytesRead);
    });
    return found ?? Buffer.alloc(0);
  }

  async append(tenant: AuditLogName, bytes: string): Promise<void> {
    const { O_WRONLY, O_APPEND, O_CREAT } = constants;
    const owner = recordOwner(this.#roots);
    const append = (): Promise<boolean | undefined> =>
      this.#withLog(tenant, O_WRONLY | O_APPEND | O_CREAT, async (file) => {
        if (owner !== undefined) await file.chown(owner.uid, owner.gid);
        await file.appendFile(bytes);
        await file.datasync();
        return true;
      });
    if ((await append()) !== undefined) return;
    await this.#makeFolder(tenant);
    await append();
  }

  async truncate(tenant: AuditLogName, size: number): Promise<void> {
    await this.#withLog(tenant, constants.O_WRONLY, async (file) => {
      await file.truncate(size);
      await file.datasync();
    });
  }

  async readHead(tenant: AuditLogName): Promise<string | undefined> {
    return readFileIfAny(this.#path(tenant, "audit.head"));
  }

  async writeHead(tenant: AuditLogName, text: string): Promise<void> {
    // The rename's fsync of the folder makes the name of a new log durable too.
    const write = (): Promise<void> =>
      writeFileAtomic(this.#path(tenant, "audit.head"), text, 0o600, recordOwner(this.#roots));
    try {
      await write();
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
      await this.#makeFolder(tenant);
      await write();
    }
  }

  async #makeFolder(tenant: AuditLogName): Promise<void> {
    if (tenant === nodeLog) await ensureAgentFolder(this.#roots, this.#folder(tenant));
    else await this.#folders.make({ tenant });
  }

  #path(tenant: AuditLogName, name: string): string {
    return join(this.#folder(tenant), name);
  }

  #folder(tenant: AuditLogName): string {
    return tenant === nodeLog ? nodeAuditFolder(this.#roots) : tenantFolder(this.#roots, tenant);
  }

  async #withLog<T>(
    tenant: AuditLogName,
    flags: number,
    work: (file: FileHandle) => Promise<T>,
  ): Promise<T | undefined> {
    let file: FileHandle;
    try {
      // A link in its place would send the lines elsewhere.
      file = await open(this.#path(tenant, "audit.log"), flags | constants.O_NOFOLLOW, 0o600);
    } catch (error) {
      if (isErrno(error, "ENOENT")) return undefined;
      throw error;
    }
    try {
      return await work(file);
    } finally {
      await file.close();
    }
  }
}
