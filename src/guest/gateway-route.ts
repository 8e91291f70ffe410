import { Resolver } from "node:dns/promises";
import { connect, createServer, isIP } from "node:net";
import type { Server, Socket } from "node:net";
import { OperationError } from "../domain/errors.ts";
import type { GatewayRoute } from "../protocol/guest-config.ts";

export interface RouteOptions {
  /** The address to listen on. */
  readonly host: string;
  /** Connections of this route at one time; more are refused. Default 1024. */
  readonly maxConnections?: number;
  /** How long one target may take to accept, in milliseconds. Default 2000. */
  readonly connectTimeoutMs?: number;
  /** IPv4 addresses of a name; default: the DNS server of /etc/resolv.conf. */
  readonly resolve?: (host: string) => Promise<string[]>;
}

const maxTargetsTried = 8;

/**
 * Listens for one route and passes every connection to the first target that accepts it.
 * @throws OperationError when the port is taken.
 */
export async function listenRoute(route: GatewayRoute, options: RouteOptions): Promise<Server> {
  const resolve = options.resolve ?? resolveByDns;
  const connectTimeoutMs = options.connectTimeoutMs ?? 2000;
  // Half-open, so that "I have said all" travels through as just that.
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    client.on("error", () => client.destroy());
    connectFirst(route, connectTimeoutMs, resolve).then(
      (target) => join(client, target),
      () => client.resetAndDestroy(),
    );
  });
  server.maxConnections = options.maxConnections ?? 1024;
  const { promise, resolve: listening, reject } = Promise.withResolvers<void>();
  server.once("error", (error) => {
    reject(new OperationError(`cannot listen on port ${route.listen_port}`, { cause: error }));
  });
  server.listen(route.listen_port, options.host, listening);
  await promise;
  // After it listens an error is one connection that could not be accepted.
  server.on("error", () => undefined);
  return server;
}

async function resolveByDns(host: string): Promise<string[]> {
  return await new Resolver({ timeout: 2000, tries: 2 }).resolve4(host);
}

async function connectFirst(
  route: GatewayRoute,
  timeoutMs: number,
  resolve: (host: string) => Promise<string[]>,
): Promise<Socket> {
  const addresses =
    isIP(route.target_host) === 0 ? await resolve(route.target_host) : [route.target_host];
  // A random first target spreads the load; the others are for when it does not accept.
  const turn = Math.floor(Math.random() * addresses.length);
  const inTurn = [...addresses.slice(turn), ...addresses.slice(0, turn)];
  for (const address of inTurn.slice(0, maxTargetsTried)) {
    const target = await tryConnect(address, route.target_port, timeoutMs);
    if (target !== undefined) return target;
  }
  throw new OperationError(`no target of route ${route.name} accepts connections`);
}

async function tryConnect(
  host: string,
  port: number,
  timeoutMs: number,
): Promise<Socket | undefined> {
  const { promise, resolve } = Promise.withResolvers<Socket | undefined>();
  const socket = connect({ host, port, allowHalfOpen: true });
  const timer = setTimeout(() => resolve(undefined), timeoutMs);
  socket.once("connect", () => resolve(socket));
  socket.on("error", () => resolve(undefined));
  const connected = await promise;
  clearTimeout(timer);
  if (connected === undefined) socket.destroy();
  return connected;
}

function join(client: Socket, target: Socket): void {
  if (client.destroyed) {
    target.destroy();
    return;
  }
  for (const [from, to] of [
    [client, target],
    [target, client],
  ] as const) {
    from.setNoDelay(true);
    // Finds peers that vanished without a word.
    from.setKeepAlive(true, 60_000);
    from.on("error", () => to.destroy());
    from.once("close", (hadError) => {
      if (hadError || !from.readableEnded) to.destroy();
    });
    from.pipe(to);
  }
}
