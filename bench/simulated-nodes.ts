// Many nodes in one process: real QUIC and TLS, each on a loopback address of its own, and a node behind each
// that takes what it is given. Started by fleet.ts, which tells it where its identities are.
import { readFile } from "node:fs/promises";
import { QuicTransport } from "../src/host/quic/quic-transport.ts";
import { ApiServer, type NodeHandlers } from "../src/node/agent/api-server.ts";
import { Refusals } from "../src/node/agent/refusals.ts";
import type { TransportIdentity } from "../src/ports/transport.ts";
import { signedBytes } from "../src/protocol/signed-desired.ts";

const [file = "", count = "0"] = process.argv.slice(2);

interface Identity {
  readonly id: string;
  readonly keyPem: string;
  readonly certificatePem: string;
  readonly caPem: string;
}

const nothing = async (): Promise<object> => ({});
const refusals = new Refusals({
  audit: { append: nothing } as never,
  locks: { withNode: async (_: string, work: () => unknown) => work() } as never,
  clock: { nowMs: Date.now } as never,
  onProgress: () => undefined,
});

/** Takes a document as far as its bytes go, as a node does before it plans. */
const handlers: NodeHandlers = {
  Reconcile: nothing,
  ReconcileSigned: async ({ signed }) => {
    const { envelope, payload } = signed as {
      envelope: Parameters<typeof signedBytes>[0];
      payload: string;
    };
    const { length } = signedBytes(envelope, Buffer.from(payload, "base64"));
    return { generation: envelope.generation, hash: String(length), changed: true };
  },
  Plan: nothing,
  NodeInfo: async () => ({ desired: null }),
  NodeStats: nothing,
  TenantList: nothing,
  InstanceList: nothing,
  WakeInstance: nothing,
  Events: nothing,
  SecretsSet: nothing,
  CertificateRequest: nothing,
  CertificateInstall: nothing,
};

const identities = JSON.parse(await readFile(file, "utf8")) as Identity[];
const addresses: string[] = [];
for (const [index, { id, ...pems }] of identities.slice(0, Number(count)).entries()) {
  const identity: TransportIdentity = { ...pems, revoked: new Set() };
  const transport = new QuicTransport({
    identity: async () => identity,
    nowMs: Date.now,
    onFault: () => undefined,
  });
  const service = new ApiServer({
    handlers,
    nodeId: id,
    version: "bench",
    rateLimit: { perSecond: 1000, burst: 1000 },
    refusals,
    nowMs: Date.now,
    onAnswered: () => undefined,
    onDefect: (error) => process.stderr.write(`${String(error)}\n`),
  });
  const listener = await transport.listen(
    `127.1.${Math.floor(index / 250)}.${index + 1}:0`,
    service,
  );
  addresses.push(listener.address);
}
process.stdout.write(`${JSON.stringify(addresses)}\n`);
