import { readFile } from "node:fs/promises";
import { NotFoundError } from "../domain/errors.ts";

export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

/** Finds a user in a file of passwd(5) form. @throws NotFoundError when it is not there. */
export async function findAccount(name: string, passwdPath: string): Promise<Account> {
  const text = await readFile(passwdPath, "utf8");
  for (const line of text.split("\n")) {
    const [user, , uid, gid, , home] = line.split(":");
    if (user === name && uid !== undefined && gid !== undefined) {
      return { name, uid: Number(uid), gid: Number(gid), home: home ?? "/" };
    }
  }
  throw new NotFoundError(`the guest has no user ${name}`);
}
