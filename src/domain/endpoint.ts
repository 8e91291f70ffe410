import { UsageError } from "./errors.ts";

/** Parses `host:port`, `[v6]:port`. @throws UsageError */
export function parseEndpoint(text: string, defaultPort?: number): { host: string; port: number } {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = digits === undefined ? defaultPort : Number(digits);
  if (host === undefined || port === undefined || port > 65_535) {
    throw new UsageError(`"${text}" is no address with a port`, {
      hint: "write it as 192.0.2.1:4433, host:4433 or [2001:db8::1]:4433",
    });
  }
  return { host, port };
}
