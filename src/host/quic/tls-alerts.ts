import { errors } from "@infisical/quic";

/** What TLS said, and what to do next. */
export interface TlsProblem {
  readonly what: string;
  readonly hint: string;
  readonly cause: unknown;
}

/** A TLS alert comes as an error of the transport with 0x100 added (RFC 9001, 4.8). */
const alertBase = 0x100;

const fromPeer: Readonly<Record<number, { readonly what: string; readonly hint: string }>> = {
  42: {
    what: "it finds no fault with the other side's certificate but not this one's",
    hint: "have a certificate issued anew",
  },
  44: { what: "this side's certificate was revoked", hint: "have one issued anew" },
  45: { what: "this side's certificate has ended", hint: "have one issued anew" },
  48: {
    what: "this side's certificate is of another CA than the node's",
    hint: "use an identity of the node's CA: mvm coordinator ca issue",
  },
  116: { what: "it wants a certificate", hint: "use an identity of the node's CA" },
  120: { what: "it does not speak mvm/1", hint: "is another program on that port?" },
};

const own: Readonly<Record<number, { readonly what: string; readonly hint: string }>> = {
  42: {
    what: "its certificate is not for the node that was asked for",
    hint: "check the address, and the node's id",
  },
  45: {
    what: "its certificate has ended",
    hint: "enrol it again: mvm agent certs request there, mvm coordinator ca issue here",
  },
  46: { what: "its certificate is not for a node", hint: "check the address" },
  48: {
    what: "its certificate is of another CA",
    hint: "check the address, and which CA this coordinator has",
  },
};

/** Why TLS let a peer in no further, for the log of the side that refused it. */
export function tlsRefusal(error: errors.ErrorQUICConnectionLocalTLS<unknown>): string {
  const alert = alertOf(error);
  const why: Readonly<Record<number, string>> = {
    42: "its certificate is not good",
    45: "its certificate has ended",
    48: "its certificate is of another CA",
    116: "it showed no certificate",
  };
  return why[alert] ?? `TLS refused it (alert ${alert})`;
}

function alertOf(error: { readonly data: unknown }): number {
  const code = (error.data as { readonly errorCode?: unknown } | undefined)?.errorCode;
  return typeof code === "number" ? code - alertBase : -1;
}

/** What a failed handshake was about, or undefined when it was not about trust. */
export function tlsProblem(error: unknown): TlsProblem | undefined {
  const isPeers = error instanceof errors.ErrorQUICConnectionPeerTLS;
  if (!isPeers && !(error instanceof errors.ErrorQUICConnectionLocalTLS)) return undefined;
  const alert = alertOf(error);
  const known = (isPeers ? fromPeer : own)[alert];
  const what =
    known?.what ??
    (isPeers ? `it refused this side (TLS alert ${alert})` : `TLS failed (alert ${alert})`);
  return { what, hint: known?.hint ?? "check the certificates of both sides", cause: error };
}
