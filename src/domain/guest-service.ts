/** Where the definitions of a guest's services are: `<name>.json` in this folder. */
export const guestServicesFolder = "/etc/mvm/services";

/** A path that a GET for health may ask for. */
export const healthPath: RegExp = /^\/[\x21-\x7e]{0,255}$/;

/** One program the guest agent keeps running. */
export interface GuestService {
  readonly name: string;
  /** Program and arguments; no shell. */
  readonly command: readonly string[];
  /** A name in the guest's /etc/passwd. */
  readonly user: string;
  readonly env: Readonly<Record<string, string>>;
  /** The TCP port it answers on, for its health; null when it has none. */
  readonly port: number | null;
  /** Healthy when a GET of `path` answers a body that contains `expect`. */
  readonly health: { readonly path: string; readonly expect: string } | null;
  /** Services that must be healthy before this one starts. */
  readonly needs: readonly string[];
}
