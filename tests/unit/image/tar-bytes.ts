/** Builds tars by hand for tests, the well-formed and the hostile. */
export interface Member {
  readonly name: string;
  readonly type?: string;
  readonly content?: string;
  readonly target?: string;
  readonly mode?: number;
  /** In the header, in place of the content's real size. */
  readonly sizeBytes?: number;
  /** As GNU tar writes a size that does not fit the header's digits. */
  readonly binarySize?: number;
}

export function tarBytes(members: readonly Member[], end = true): Buffer {
  const parts = members.map(memberBytes);
  return Buffer.concat([...parts, Buffer.alloc(end ? 1024 : 0)]);
}

function memberBytes(member: Member): Buffer {
  const content = Buffer.from(member.content ?? "");
  const header = Buffer.alloc(512);
  header.write(member.name, 0, 100);
  header.write((member.mode ?? 0o644).toString(8).padStart(7, "0"), 100);
  header.write((member.sizeBytes ?? content.length).toString(8).padStart(11, "0"), 124);
  if (member.binarySize !== undefined) {
    header[124] = 0x80;
    header.writeBigUInt64BE(BigInt(member.binarySize), 128);
  }
  header.write("00000000001", 136);
  header.write(member.type ?? "0", 156);
  header.write(member.target ?? "", 157, 100);
  header.write("ustar  \0", 257);
  header.fill(" ", 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  const padding = Buffer.alloc((512 - (content.length % 512)) % 512);
  return Buffer.concat([header, content, padding]);
}
