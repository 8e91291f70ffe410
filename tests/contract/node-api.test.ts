import assert from "node:assert/strict";
import { afterEach, suite, test } from "node:test";
import { createSocket } from "node:dgram";
import { NodeClient } from "../../src/coordinator/node-client.ts";
import { MvmError, NotTrustedError, OperationError } from "../../src/domain/errors.ts";
import { encodeFrame } from "../../src/protocol/frames.ts";
import type { Connection } from "../../src/ports/transport.ts";
import { type ApiOptions, ApiUnderTest, nodeId } from "../builders/api-under-test.ts";
import { RawPeer } from "../builders/raw-peer.ts";
import { TestCa } from "../builders/identities.ts";

const signal = AbortSignal.timeout(120_000);
const hello = { id: 0, op: "Hello", protocol: "mvm-node", version: 1, role: "coordinator" };

suite("the API of a node over QUIC", { timeout: 180_000 }, () => {
  const running: ApiUnderTest[] = [];
  const start = async (options: ApiOptions = {}): Promise<ApiUnderTest> => {
    const api = await ApiUnderTest.start(options);
    running.push(api);
    return api;
  };
  afterEach(async () => {
    for (const api of running.splice(0)) {
      const { defects } = api;
      await api.stop();
      assert.deepEqual(defects, []);
    }
  });

  async function ask(connection: Connection, value: unknown): Promise<unknown> {
    const channel = await connection.open();
    await channel.send(value);
    const answer = await channel.receive(true);
    await channel.end();
    return answer;
  }

  async function greeted(api: ApiUnderTest): Promise<Connection> {
    const connection = await api.connect();
    await ask(connection, hello);
    return connection;
  }

  const errorOf = (answer: unknown): { code: string; message: string } =>
    (answer as { error: { code: string; message: string } }).error;

  test("answers a coordinator, and knows it by its certificate", async () => {
    const api = await start({
      handlers: { NodeInfo: async (_, { peer }) => ({ asked_by: `${peer.role} ${peer.id}` }) },
    });
    const client = await api.client();
    assert.equal((await client.hello(signal)).node_id, nodeId);
    assert.deepEqual(await client.call("NodeInfo", {}, { signal }), {
      asked_by: "coordinator fleet",
    });
  });

  test("tells progress before the answer", async () => {
    const api = await start({
      handlers: {
        Reconcile: async (_, call) => {
          for (const step of [1, 2, 3]) await call.progress({ step });
          return { done: true };
        },
      },
    });
    const client = await api.client();
    const heard: unknown[] = [];
    const onProgress = (step: unknown): void => void heard.push(step);
    const answer = await client.call("Reconcile", { desired: {} }, { signal, onProgress });
    assert.deepEqual(heard, [{ step: 1 }, { step: 2 }, { step: 3 }]);
    assert.deepEqual(answer, { done: true });
  });

  test("an error keeps its class and its next step", async () => {
    const api = await start({
      handlers: {
        WakeInstance: async () => {
          throw new NotTrustedError("no such trust", { hint: "earn it" });
        },
      },
    });
    const client = await api.client();
    await assert.rejects(
      client.call("WakeInstance", { instance: "i-00000001" }, { signal }),
      (error) => error instanceof NotTrustedError && error.hint === "earn it",
    );
  });

  suite("lets nobody in whom its CA does not stand for", () => {
    const refusedAs = (pattern: RegExp) => (error: unknown) =>
      error instanceof NotTrustedError && pattern.test(error.message);

    async function refusal(api: ApiUnderTest): Promise<string> {
      for (let tries = 0; api.refusals.length === 0 && tries < 100; tries += 1) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      return api.refusals[0]?.cause ?? "nothing was written down";
    }

    test("a certificate of another CA", async () => {
      const read: unknown[] = [];
      const api = await start({ handlers: { NodeInfo: async () => read.push("read") } });
      const other = await (await TestCa.make("other")).issue({ role: "coordinator", id: "fleet" });
      const shown = { ...other, caPem: api.ca.ca.certificatePem };
      const asked = (async () => (await api.client(shown)).call("NodeInfo", {}, { signal }))();
      await assert.rejects(asked, refusedAs(/another CA/));
      assert.match(await refusal(api), /another CA/);
      assert.deepEqual(read, []);
    });

    test("one that has ended", async () => {
      const api = await start();
      const nowMs = Date.now() - 3 * 86_400_000;
      const shown = await api.ca.issue({ role: "coordinator", id: "fleet" }, { nowMs });
      const asked = (async () => (await api.client(shown)).call("NodeInfo", {}, { signal }))();
      await assert.rejects(asked, refusedAs(/has ended/));
      assert.match(await refusal(api), /has ended/);
    });

    test("one that was revoked, also on a connection that is open", async () => {
      const api = await start();
      const shown = await api.ca.issue({ role: "coordinator", id: "fleet" });
      const client = await api.client(shown);
      await client.call("NodeInfo", {}, { signal });
      const { X509Certificate } = await import("node:crypto");
      const { normalSerial } = await import("../../src/host/quic/peer-certificate.ts");
      const serial = normalSerial(new X509Certificate(shown.certificatePem).serialNumber);
      api.listener.useIdentity({ ...api.identity, revoked: new Set([serial]) });
      await assert.rejects(client.call("NodeInfo", {}, { signal }), MvmError);
      const again = (async () => (await api.client(shown)).call("NodeInfo", {}, { signal }))();
      await assert.rejects(again, /revoked/);
      assert.match(await refusal(api), /revoked/);
    });

    test("none at all", async () => {
      const api = await start();
      const { QUICClient } = await import("@infisical/quic");
      const { clientCrypto, silentLogger } = await import("../../src/host/quic/settings.ts");
      const ended = Promise.withResolvers<unknown>();
      const client = await QUICClient.createQUICClient({
        host: "127.0.0.1",
        port: api.listener.port,
        serverName: "node.mvm",
        crypto: clientCrypto,
        logger: silentLogger,
        config: { ca: api.ca.ca.certificatePem, applicationProtos: ["mvm/1"] },
      });
      client.addEventListener("EventQUICClientClose", (event: Event) => ended.resolve(event));
      const { detail } = (await ended.promise) as { detail: { data: { errorCode: number } } };
      assert.equal(detail.data.errorCode, 0x100 + 116, "TLS asks for a certificate");
      assert.match(await refusal(api), /no certificate/);
    });

    test("a node that shows a coordinator's certificate is not believed either", async () => {
      const ca = await TestCa.make();
      const api = await start({ identity: await ca.issue({ role: "coordinator", id: "fleet" }) });
      const shown = await ca.issue({ role: "coordinator", id: "me" });
      await assert.rejects(api.connect(shown), NotTrustedError);
    });

    test("another node than the one that was asked for", async () => {
      const api = await start();
      const { QuicTransport } = await import("../../src/host/quic/quic-transport.ts");
      const shown = await api.ca.issue({ role: "coordinator", id: "fleet" });
      const transport = new QuicTransport({
        identity: async () => shown,
        nowMs: Date.now,
        onFault: () => undefined,
      });
      const target = { host: "127.0.0.1", port: api.listener.port, nodeId: "another-node" };
      await assert.rejects(transport.dial(target, signal), NotTrustedError);
    });
  });

  test("a node may ask for another's state, and for nothing else", async () => {
    const api = await start();
    const node = await api.ca.issue({ role: "node", id: "another-node" });
    const client = await api.client(node, "node");
    await client.call("NodeInfo", {}, { signal });
    for (const op of ["Plan", "TenantList", "CertificateRequest", "Reconcile"] as const) {
      const asked = client.call(op, { desired: {} }, { signal });
      await assert.rejects(asked, (error) => error instanceof NotTrustedError, op);
    }
    assert.equal(api.refusals.length, 4);
    assert.match(api.refusals[0]?.peer ?? "", /^node another-node$/);
  });

  test("what an operation does not believe is a refusal that is written down", async () => {
    const api = await start({
      handlers: {
        CertificateInstall: async () => {
          throw new NotTrustedError("the certificate is not of this node's CA");
        },
      },
    });
    const connection = await greeted(api);
    const answer = await ask(connection, { id: 1, op: "CertificateInstall", certificate: "x" });
    assert.equal(errorOf(answer).code, "not_trusted");
    assert.deepEqual(
      api.refusals.map(({ peer, command, cause }) => ({ peer, command, cause })),
      [
        {
          peer: "coordinator fleet",
          command: "CertificateInstall",
          cause: "the certificate is not of this node's CA",
        },
      ],
    );
  });

  test("nobody says it is what its certificate does not say", async () => {
    const api = await start();
    const node = await api.ca.issue({ role: "node", id: "another-node" });
    const answer = await ask(await api.connect(node), hello);
    assert.equal(errorOf(answer).code, "not_trusted");
  });

  test("versions that do not fit are refused by name", async () => {
    const api = await start();
    const answer = await ask(await api.connect(), { ...hello, version: 7 });
    assert.equal(errorOf(answer).code, "usage");
    assert.match(errorOf(answer).message, /mvm-node version 1, not mvm-node version 7/);
  });

  test("nothing is answered before Hello", async () => {
    const api = await start();
    const answer = await ask(await api.connect(), { id: 1, op: "NodeInfo" });
    assert.match(errorOf(answer).message, /begins with Hello/);
  });

  test("unknown operations and fields are typed errors, all fields at once", async () => {
    const api = await start();
    const connection = await greeted(api);
    const unknown = errorOf(await ask(connection, { id: 1, op: "Format" }));
    assert.equal(unknown.code, "usage");
    assert.match(unknown.message, /unknown operation "Format"/);
    const fields = errorOf(
      await ask(connection, { id: 2, op: "Events", last: 0, colour: "red", tenant_id: 3 }),
    );
    for (const field of ["last", "colour", "tenant_id"])
      assert.match(fields.message, RegExp(field));
    // The connection is as good as before.
    assert.ok("ok" in ((await ask(connection, { id: 3, op: "NodeInfo" })) as object));
  });

  suite("bears what is no request", () => {
    const peers: RawPeer[] = [];
    afterEach(async () => {
      for (const peer of peers.splice(0)) await peer.close();
    });

    async function rawPeer(api: ApiUnderTest): Promise<RawPeer> {
      const shown = await api.ca.issue({ role: "coordinator", id: "fleet" });
      const peer = await RawPeer.connect(api.listener.port, shown);
      peers.push(peer);
      await peer.exchange(encodeFrame(hello));
      return peer;
    }

    const isWell = async (peer: RawPeer): Promise<void> => {
      const answer = await peer.exchange(encodeFrame({ id: 9, op: "NodeInfo" }));
      assert.ok("ok" in (answer as object), JSON.stringify(answer));
    };

    test("bytes that are no JSON, no request, or too long", async () => {
      const api = await start({ limits: { maxFrameBytes: 4096 } });
      const peer = await rawPeer(api);
      const notJson = Buffer.concat([Buffer.from([0, 0, 0, 5]), Buffer.from("{{{{{")]);
      assert.equal(errorOf(await peer.exchange(notJson)).code, "usage");
      const tooLong = Buffer.from([0, 1, 0, 0, 1, 2, 3]);
      assert.match(errorOf(await peer.exchange(tooLong)).message, /over the limit of 4096/);
      for (const value of [null, 1, "x", [], {}, { id: -1, op: "NodeInfo" }, { op: "NodeInfo" }]) {
        const answer = await peer.exchange(encodeFrame(value));
        assert.equal(errorOf(answer).code, "usage", JSON.stringify(value));
      }
      await isWell(peer);
      assert.ok(api.refusals.some(({ command }) => command === "frame"));
    });

    test("a peer that opens a channel and says nothing, or half of it", async () => {
      const api = await start({ limits: { firstByteMs: 300, frameMs: 600 } });
      const peer = await rawPeer(api);
      const half = encodeFrame({ id: 1, op: "NodeInfo" }).subarray(0, 9);
      const startedMs = Date.now();
      assert.match(errorOf(await peer.exchange(half)).message, /did not become whole in time/);
      const nothing = await peer.exchange(Buffer.from([0]));
      assert.match(errorOf(nothing).message, /in time/);
      assert.ok(Date.now() - startedMs < 10_000);
      await isWell(peer);
    });

    test("a flood of frames on one channel: the first is answered and the rest unread", async () => {
      let asked = 0;
      const api = await start({ handlers: { NodeInfo: async () => ({ asked: (asked += 1) }) } });
      const peer = await rawPeer(api);
      const frame = encodeFrame({ id: 1, op: "NodeInfo" });
      const flood = Buffer.concat(Array.from({ length: 500 }, () => frame));
      assert.deepEqual(await peer.exchange(flood), { id: 1, ok: true, result: { asked: 1 } });
      await isWell(peer);
      assert.equal(asked, 2);
    });

    test("one that leaves in the middle of a long request: the request hears of it", async () => {
      const left = Promise.withResolvers<void>();
      const api = await start({
        handlers: {
          Reconcile: async (_, call) => {
            call.signal.addEventListener("abort", () => left.resolve());
            await left.promise;
            throw new OperationError("interrupted");
          },
        },
      });
      const client = await api.client();
      const leaving = new AbortController();
      const asked = client.call("Reconcile", { desired: {} }, { signal: leaving.signal });
      setTimeout(() => leaving.abort(), 200);
      await assert.rejects(asked, /interrupted/);
      await left.promise;
    });
  });

  test("takes no more connections, and no more handshakes of one address, than it may have", async () => {
    const late = /does not answer|ended/;
    const busy = await start({ limits: { maxHandshakesPerAddress: 0 } });
    await assert.rejects(busy.connect(undefined, { handshakeMs: 1500 }), late);
    const full = await start({ limits: { maxConnections: 1 } });
    const connection = await greeted(full);
    await assert.rejects(full.connect(undefined, { handshakeMs: 1500 }), late);
    assert.ok("ok" in ((await ask(connection, { id: 1, op: "NodeInfo" })) as object));
  });

  test("a peer that asks far more often than its rate is sent away", async () => {
    const api = await start({ rateLimit: { perSecond: 0.001, burst: 1 } });
    const connection = await greeted(api);
    const flood = async (): Promise<void> => {
      for (let id = 1; id <= 300; id += 1) await ask(connection, { id, op: "NodeInfo" });
    };
    await assert.rejects(flood(), /more often than your rate|cut off|gone/);
    assert.equal(api.listener.connections, 0);
  });

  test("asks of a peer are limited by a bucket, and it is told when to come again", async () => {
    const api = await start({ rateLimit: { perSecond: 1, burst: 3 } });
    const connection = await greeted(api);
    const answers = [];
    for (let id = 1; id <= 4; id += 1) answers.push(await ask(connection, { id, op: "NodeInfo" }));
    const last = answers.at(-1) as { id: number; error: { code: string; details: object } };
    assert.equal(last.error.code, "rate_limited");
    assert.ok("retry_after_ms" in last.error.details);
    // Another connection of the same peer has no bucket of its own.
    const second = await ask(await api.connect(), hello);
    assert.equal(errorOf(second).code, "rate_limited");
  });

  test("a client waits as it is told, and then has its answer", async () => {
    const api = await start({ rateLimit: { perSecond: 20, burst: 2 } });
    const client = await api.client();
    for (let count = 0; count < 6; count += 1) await client.call("NodeInfo", {}, { signal });
  });

  test("a request of 4 MiB is taken whole", async () => {
    const api = await start({
      handlers: { Reconcile: async ({ desired }) => ({ bytes: (desired as string).length }) },
    });
    const client = await api.client();
    const desired = "x".repeat(4 * 1024 * 1024);
    const answer = await client.call("Reconcile", { desired }, { signal });
    assert.deepEqual(answer, { bytes: desired.length });
  });

  test("many more requests at once than a connection has streams are all answered", async () => {
    const api = await start({
      handlers: {
        NodeInfo: async () => {
          await new Promise((resolve) => setTimeout(resolve, 20));
          return { here: true };
        },
      },
      limits: { maxChannels: 8 },
    });
    const client = new NodeClient(
      await api.connect(undefined, { maxChannels: 100 }),
      "coordinator",
    );
    const asked = Array.from({ length: 200 }, () => client.call("NodeInfo", {}, { signal }));
    assert.equal((await Promise.all(asked)).length, 200);
  });

  test("a new certificate is used from the next connection on; open ones go on", async () => {
    const api = await start();
    const before = await api.client();
    await before.call("NodeInfo", {}, { signal });
    const renewed = await api.ca.issue({ role: "node", id: nodeId }, { lifeMs: 2 * 86_400_000 });
    api.listener.useIdentity(renewed);
    await before.call("NodeInfo", {}, { signal });
    const after = await api.client();
    await after.call("NodeInfo", {}, { signal });
    assert.ok((after.peer.expiresAtMs ?? 0) > (before.peer.expiresAtMs ?? 0));
  });

  test("what says nothing for too long is closed", async () => {
    const api = await start({ limits: { idleMs: 400 } });
    await greeted(api);
    for (let tries = 0; api.listener.connections > 0 && tries < 100; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.equal(api.listener.connections, 0);
  });

  test("a packet of early data, which has no token, does not end the process", async () => {
    // RFC 9000, 17.2.3: a long header of type 0x1, version 1, with two connection ids and no token.
    const zeroRtt = Buffer.concat([
      Buffer.from([0b1101_0000, 0, 0, 0, 1, 20]),
      Buffer.alloc(20, 7),
      Buffer.from([20]),
      Buffer.alloc(20, 9),
      Buffer.from([0x44, 0xb0]),
      Buffer.alloc(1200, 1),
    ]);
    const api = await start();
    const escaped: unknown[] = [];
    const note = (error: unknown): void => void escaped.push(error);
    process.on("unhandledRejection", note);
    const socket = createSocket("udp4");
    try {
      for (let count = 0; count < 5; count += 1) {
        await new Promise<void>((resolve, reject) => {
          socket.send(zeroRtt, api.listener.port, "127.0.0.1", (error) =>
            error === null ? resolve() : reject(error),
          );
        });
      }
      await new Promise((resolve) => setTimeout(resolve, 300));
      const client = await api.client();
      await client.call("NodeInfo", {}, { signal });
    } finally {
      process.off("unhandledRejection", note);
      socket.close();
    }
    assert.deepEqual(escaped, []);
    assert.deepEqual(api.faults, [], "it was turned away before the library saw it");
  });
});
