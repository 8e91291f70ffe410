import type { Socket } from "node:net";
import koffi from "koffi";
import { OperationError } from "../domain/errors.ts";

// What Node lacks of Linux. Loaded only by programs that need it.

/** From asm-generic/socket.h; the same on x86-64 and AArch64. */
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
/** `struct ucred` of unix(7): three 32-bit numbers. */
const credentialBytes = 12;

/** Who is at the other end of a Unix socket, as the kernel wrote it down when the connection was made. */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** SO_PEERCRED of unix(7). @throws OperationError when the socket is not open. */
export function peerCredentials(socket: Socket): PeerCredentials {
  const { _handle: handle } = socket as Socket & { readonly _handle?: { readonly fd?: number } };
  const fd = handle?.fd;
  if (fd === undefined || fd < 0) throw new OperationError("the connection is not open");
  const credentials = Buffer.alloc(credentialBytes);
  const length = [credentialBytes];
  const result = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length);
  if (result !== 0 || length[0] !== credentialBytes) {
    throw new OperationError("the kernel does not say who is at the other end of a socket");
  }
  return {
    pid: credentials.readInt32LE(0),
    uid: credentials.readUInt32LE(4),
    gid: credentials.readUInt32LE(8),
  };
}

type Getsockopt = (
  fd: number,
  level: number,
  name: number,
  value: Buffer,
  length: number[],
) => number;

const getsockopt = koffi
  .load("libc.so.6")
  .func("int getsockopt(int, int, int, _Out_ void *, _Inout_ uint32_t *)") as unknown as Getsockopt;
