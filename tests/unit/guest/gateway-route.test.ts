import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { after, test } from "node:test";
import { listenRoute } from "../../../src/guest/gateway-route.ts";
import type { RouteOptions } from "../../../src/guest/gateway-route.ts";

const servers: Server[] = [];
const sockets: Socket[] = [];
after(() => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers) server.close();
});

const portOf = (server: Server): number => (server.address() as AddressInfo).port;

async function target(host: string, onConnection: (socket: Socket) => void): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, onConnection).listen(0, host);
  servers.push(server);
  server.on("connection", (socket) => sockets.push(socket));
  await once(server, "listening");
  return portOf(server);
}

async function gateway(targetPort: number, options: Partial<RouteOptions>): Promise<number> {
  const server = await listenRoute(
    { name: "test", listen_port: 0, target_host: "workers.mvm", target_port: targetPort },
    { host: "127.0.0.1", ...options },
  );
  servers.push(server);
  return portOf(server);
}

async function talk(port: number, text: string): Promise<string> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.end(text);
  let answer = "";
  for await (const chunk of socket) answer += String(chunk);
  return answer;
}

void test("a connection reaches the target, and the end of each direction goes through", async () => {
  const port = await target("127.0.0.1", (socket) => {
    let heard = "";
    socket.on("data", (chunk) => (heard += String(chunk)));
    // Answers only once the client has said all: this needs half-closed connections.
    socket.on("end", () => socket.end(`heard ${heard}`));
  });
  const resolve = (): Promise<string[]> => Promise.resolve(["127.0.0.1"]);
  assert.equal(await talk(await gateway(port, { resolve }), "hello"), "heard hello");
});

void test("a target that does not accept is passed over for the next address", async () => {
  const port = await target("127.0.0.2", (socket) => socket.end("second"));
  const resolve = (): Promise<string[]> => Promise.resolve(["127.0.0.3", "127.0.0.2"]);
  const gatewayPort = await gateway(port, { resolve });
  for (let time = 0; time < 6; time += 1) assert.equal(await talk(gatewayPort, ""), "second");
});

void test("a name that nobody answers to closes the connection", async () => {
  const resolve = (): Promise<string[]> => Promise.reject(new Error("no such name"));
  const port = await gateway(1, { resolve });
  await assert.rejects(talk(port, "x"), /ECONNRESET/);
});

void test("connections over the limit are refused", async () => {
  const port = await target("127.0.0.1", () => undefined);
  const resolve = (): Promise<string[]> => Promise.resolve(["127.0.0.1"]);
  const gatewayPort = await gateway(port, { resolve, maxConnections: 1 });
  const first = connect(gatewayPort, "127.0.0.1");
  await once(first, "connect");
  const second = connect(gatewayPort, "127.0.0.1");
  second.on("error", () => undefined);
  await once(second, "close");
  first.destroy();
});
