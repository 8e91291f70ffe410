import type { GuestService } from "../domain/guest-service.ts";

const probeTimeoutMs = 5000;
const maxBodyBytes = 64 * 1024;

/** Asks a running service how it is. @returns undefined when it is well, else why not. */
export async function probeService(service: GuestService): Promise<string | undefined> {
  if (service.port === null) return undefined;
  return service.health === null
    ? await probeTcp(service.port)
    : await probeHttp(service.port, service.health.path, service.health.expect);
}

async function probeTcp(port: number): Promise<string | undefined> {
  const { connect } = await import("node:net");
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const socket = connect({ host: "127.0.0.1", port });
  const timer = setTimeout(
    () => resolve(`port ${port} did not answer in ${probeTimeoutMs} ms`),
    probeTimeoutMs,
  );
  socket.once("connect", () => resolve(undefined));
  socket.on("error", (error) => resolve(`port ${port}: ${error.message}`));
  const detail = await promise;
  clearTimeout(timer);
  socket.destroy();
  return detail;
}

async function probeHttp(port: number, path: string, expect: string): Promise<string | undefined> {
  const { get } = await import("node:http");
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const request = get({ host: "127.0.0.1", port, path, agent: false }, (response) => {
    let body = Buffer.alloc(0);
    response.on("data", (chunk: Buffer) => {
      body = Buffer.concat([body, chunk]);
      if (body.length >= maxBodyBytes) finish();
    });
    response.on("end", finish);
    response.on("error", finish);
    function finish(): void {
      const status = response.statusCode ?? 0;
      if (body.subarray(0, maxBodyBytes).includes(expect)) resolve(undefined);
      else resolve(`GET ${path} answered ${status} without ${JSON.stringify(expect)}`);
    }
  });
  const timer = setTimeout(
    () => resolve(`GET ${path} did not answer in ${probeTimeoutMs} ms`),
    probeTimeoutMs,
  );
  request.on("error", (error) => resolve(`GET ${path}: ${error.message}`));
  const detail = await promise;
  clearTimeout(timer);
  request.destroy();
  return detail;
}
