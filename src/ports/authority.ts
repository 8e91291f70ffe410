import type { TransportIdentity } from "./transport.ts";

/** A certificate as its CA remembers it. */
export interface IssuedCertificate {
  /** Lower-case hex. */
  readonly serial: string;
  readonly role: "coordinator" | "node";
  readonly id: string;
  readonly issued_at: string;
  readonly expires_at: string;
  readonly revoked_at: string | null;
}

/** Whom a certificate is issued to. */
export type IssueRequest =
  /** What a signing request asks for; the id only when it is the one that is expected, if one is. */
  | {
      readonly requestPem: string;
      readonly expectedId?: string | undefined;
      readonly role: "coordinator" | "node";
    }
  /** Somebody who has no key yet: one is made. */
  | { readonly role: "coordinator" | "node"; readonly id: string };

export interface IssuedAnswer {
  readonly issued: IssuedCertificate;
  readonly certificatePem: string;
  /** Only when the key was made here. */
  readonly keyPem: string | null;
}

/** The CA of a fleet and the coordinator's own identity, in the coordinator's folder. */
export interface Authority {
  /** Makes the CA, once, and the coordinator's identity. @returns the CA's certificate, PEM. @throws ConflictError when there is one: it is never overwritten. */
  init(name: string, nowMs: number): Promise<string>;
  /** Issues a certificate and remembers it. @throws NotTrustedError for a request that is not good. */
  issue(request: IssueRequest, lifeMs: number, nowMs: number): Promise<IssuedAnswer>;
  issued(): Promise<readonly IssuedCertificate[]>;
  /** Takes back a serial number, or all certificates of an id. @returns those taken back now. @throws NotFoundError */
  revoke(what: string, nowMs: number): Promise<readonly IssuedCertificate[]>;
  /** The signed list of all that was taken back, PEM. */
  revocations(): Promise<string>;
  /** What the coordinator shows nodes; renewed when half of its life is over and the CA is here. */
  identity(nowMs: number): Promise<TransportIdentity>;
}
