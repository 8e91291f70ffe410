import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import net, { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { HostLacksError } from "../../../../src/domain/errors.ts";
import { UnixListener } from "../../../../src/host/transport/unix-transport.ts";
import type { ConnectionService } from "../../../../src/ports/transport.ts";

const nobody: ConnectionService = { serve: () => undefined, refused: () => undefined };

suite("the socket of a daemon", () => {
  let folder = "";
  let path = "";
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-socket-"));
    path = join(folder, "agent.sock");
  });
  afterEach(() => rm(folder, { recursive: true }));

  test("is for its group alone from the moment it is there, whatever the umask", async (t) => {
    const umask = process.umask(0);
    t.after(() => process.umask(umask));
    const modes: number[] = [];
    const listen = Reflect.get(net.Server.prototype, "listen") as (
      ...given: unknown[]
    ) => net.Server;
    // The mode as it is when `listen` has made the file and nothing else has run since.
    t.mock.method(net.Server.prototype, "listen", function (this: net.Server, ...given: unknown[]) {
      const server = Reflect.apply(listen, this, given);
      modes.push(statSync(path).mode & 0o777);
      return server;
    });
    const listener = await UnixListener.start(path, nobody);
    t.after(() => listener.close(0));
    assert.deepEqual(modes, [0o660]);
    assert.equal((await stat(path)).mode & 0o777, 0o660);
    assert.equal(process.umask(), 0, "the process's own umask is as it was");
  });

  test("that a killed daemon left is replaced", async () => {
    await writeFile(path, "");
    const listener = await UnixListener.start(path, nobody);
    await listener.close(0);
    await assert.rejects(stat(path), /ENOENT/);
  });

  test("of a daemon that is there is not taken from it", async () => {
    const listener = await UnixListener.start(path, nobody);
    await assert.rejects(UnixListener.start(path, nobody), HostLacksError);
    assert.ok((await stat(path)).isSocket());
    await listener.close(0);
  });

  test("of a daemon too busy to answer is not taken from it either", async (t) => {
    const busy = createServer();
    await new Promise<void>((resolve) => busy.listen(path, resolve));
    t.after(() => busy.close());
    const full = Object.assign(new Error("connect EAGAIN"), { code: "EAGAIN", syscall: "connect" });
    t.mock.method(net, "createConnection", () => {
      const socket = new net.Socket();
      setImmediate(() => socket.destroy(full));
      return socket;
    });
    syncBuiltinESMExports();
    t.after(() => {
      t.mock.restoreAll();
      syncBuiltinESMExports();
    });
    await assert.rejects(
      UnixListener.start(path, nobody).then((taken) => taken.close(0)),
      HostLacksError,
    );
    assert.ok((await stat(path)).isSocket());
  });

  test("of the next daemon stays when the one before it ends at last", async () => {
    const before = await UnixListener.start(path, nobody);
    const slow = net.createConnection(path);
    await new Promise((resolve) => slow.once("connect", resolve));
    while (before.connections === 0) await new Promise(setImmediate);
    const ending = before.close(5000);
    const next = await UnixListener.start(path, nobody);
    slow.destroy();
    await ending;
    assert.ok((await stat(path)).isSocket());
    await next.close(0);
  });
});
