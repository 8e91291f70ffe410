import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, readdir, rm, utimes } from "node:fs/promises";
import { type Server, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { gzipSync } from "node:zlib";
import { NotFoundError, OperationError, UsageError } from "../../../src/domain/errors.ts";
import { HttpsDownload } from "../../../src/host/https-download.ts";
import { GithubFlakes } from "../../../src/image/github-flake.ts";
import { narHash } from "../../../src/image/nar.ts";
import { type Member, tarBytes } from "./tar-bytes.ts";

const commit = "c0ffee".padEnd(40, "0");
const longName = `docs/${"n".repeat(120)}`;
const paxText = `path=o-r-c0ffee/${longName}\n`;
/** As git-archive(1) packs a commit: its name in front, all below one folder, long names apart. */
const archive: readonly Member[] = [
  { name: "pax_global_header", type: "g", content: `52 comment=${commit}\n` },
  { name: "o-r-c0ffee/", type: "5" },
  { name: "o-r-c0ffee/flake.nix", content: "{ outputs = { self }: { }; }\n" },
  { name: "o-r-c0ffee/run", content: "#!/bin/sh\n", mode: 0o775 },
  { name: "o-r-c0ffee/docs/", type: "5" },
  { name: "o-r-c0ffee/x.paxheader", type: "x", content: `${paxText.length + 4} ${paxText}` },
  { name: "o-r-c0ffee/short", content: "long\n" },
  { name: "o-r-c0ffee/link", type: "2", target: "docs" },
];

describe("a flake on GitHub", () => {
  let folder: string;
  let server: Server;
  let apiUrl: string;
  let asked: string[];
  let members: readonly Member[];
  let answer: (response: ServerResponse) => void;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-github-"));
    asked = [];
    members = archive;
    answer = (response) => response.end(gzipSync(tarBytes(members)));
    server = createServer((request, response) => {
      const path = request.url ?? "";
      asked.push(path);
      if (path === "/repos/o/r/commits/HEAD" || path === "/repos/o/r/commits/feature%2Fone") {
        assert.equal(request.headers.accept, "application/vnd.github.sha");
        response.end(commit);
      } else if (path === `/repos/o/r/tarball/${commit}`) {
        response.writeHead(302, { location: "/codeload" }).end();
      } else if (path === "/codeload") answer(response);
      else response.writeHead(404).end("{}");
    });
    await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
    apiUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => void server.close(resolve));
    await rm(folder, { recursive: true });
  });

  const flakes = (nowMs = Date.now()): GithubFlakes =>
    new GithubFlakes({
      folder: join(folder, "flakes"),
      download: new HttpsDownload(),
      apiUrl,
      nowMs: () => nowMs,
    });
  const assertNothingUnfinished = async (): Promise<void> => {
    const names = await readdir(join(folder, "flakes")).catch(() => []);
    assert.deepEqual(
      names.filter((name) => name.startsWith(".")),
      [],
    );
  };

  it("is locked to the commit that its branch is at, and unpacked as git has it", async () => {
    for (const ref of ["github:o/r", "github:o/r/feature/one"]) {
      const source = await flakes().find(ref);
      assert.equal(source.url, `github:o/r/${commit}`);
      assert.match(await readFile(join(source.folder, "flake.nix"), "utf8"), /outputs/);
      assert.equal(await readFile(join(source.folder, longName), "utf8"), "long\n");
      assert.deepEqual((await readdir(source.folder)).toSorted(), [
        "docs",
        "flake.nix",
        "link",
        "run",
      ]);
    }
    await assertNothingUnfinished();
  });

  it("is fetched once for a commit, and not resolved when it names one", async () => {
    await flakes().find(`github:o/r/${commit}`);
    await flakes().find(`github:o/r/${commit}`);
    assert.deepEqual(asked, [`/repos/o/r/tarball/${commit}`, "/codeload"]);
  });

  it("stays at one commit while one command works on it", async () => {
    const one = flakes();
    await one.find("github:o/r");
    await one.find("github:o/r");
    assert.equal(asked.filter((path) => path.includes("/commits/")).length, 1);
  });

  it("must have the NAR hash that its reference names", async () => {
    const { folder: source } = await flakes().find("github:o/r");
    const hash = await narHash(source);
    const found = await flakes().find(`github:o/r/${commit}?narHash=${encodeURIComponent(hash)}`);
    assert.equal(found.folder, source);
    const other = `sha256-${"A".repeat(43)}=`;
    await assert.rejects(flakes().find(`github:o/r?narHash=${other}`), (error) => {
      assert.ok(error instanceof OperationError);
      assert.match(error.message, new RegExp(`NAR hash is ${hash.replaceAll("+", "\\+")}`));
      return true;
    });
  });

  it("is not found when there is no such repository, or no flake in it", async () => {
    await assert.rejects(flakes().find("github:o/other"), NotFoundError);
    members = archive.filter(({ name }) => !name.endsWith("flake.nix"));
    await assert.rejects(flakes().find("github:o/r"), /no flake.nix at c0ffee/);
    await assertNothingUnfinished();
  });

  const hostile: readonly [string, readonly Member[]][] = [
    ["a name that climbs", [{ name: "o-r-c0ffee/../x", content: "x" }]],
    ["a device", [{ name: "o-r-c0ffee/x", type: "3" }]],
    ["a second folder at its top", [{ name: "other/", type: "5" }]],
    ["a file at its top", [{ name: "x", content: "x" }]],
    ["a file below a link", [{ name: "o-r-c0ffee/link/x", content: "x" }]],
    ["a hundred gigabytes", [{ name: "o-r-c0ffee/x", binarySize: 100 * 1024 ** 3 }]],
    ["a broken extended header", [{ name: "x", type: "x", content: "999 path=x\n" }]],
  ];
  for (const [what, extra] of hostile) {
    it(`is refused when its archive has ${what}`, async () => {
      members = [...archive, ...extra];
      await assert.rejects(flakes().find("github:o/r"), OperationError);
      assert.deepEqual(await readdir(join(folder, "flakes")), []);
    });
  }

  const broken: readonly [string, (response: ServerResponse) => void, RegExp][] = [
    ["is no gzip", (response) => response.end("<html>"), /damaged/],
    [
      "ends in the middle",
      (response) => response.end(gzipSync(tarBytes(archive)).subarray(0, 200)),
      /damaged/,
    ],
    ["is an error", (response) => response.writeHead(500).end(), /answered 500/],
    ["breaks off", (response) => response.destroy(), /cannot be reached/],
  ];
  for (const [what, reply, message] of broken) {
    it(`is refused when what GitHub sends ${what}`, async () => {
      answer = reply;
      await assert.rejects(flakes().find("github:o/r"), (error) => {
        assert.ok(error instanceof OperationError, String(error));
        assert.match(error.message, message);
        return true;
      });
      await assertNothingUnfinished();
    });
  }

  it("is refused with one error when GitHub cannot be reached", async () => {
    await new Promise((resolve) => void server.close(resolve));
    await assert.rejects(
      flakes().find("github:o/r"),
      /127.0.0.1:\d+ cannot be reached: .*ECONNREFUSED/,
    );
  });

  it("has a reference that mvm understands whole or not at all", async () => {
    for (const ref of [
      "github:o",
      "github:o/r?dir=x",
      "github:o/../x",
      "github:o/r/a/../b",
      "github:o/r#x",
    ]) {
      await assert.rejects(flakes().find(ref), UsageError, ref);
    }
    assert.deepEqual(asked, []);
  });

  it("leaves nothing for good: a fetch that died goes, and so does a source unused for a week", async () => {
    const { folder: source } = await flakes().find("github:o/r");
    const died = join(folder, "flakes", ".new-0badc0de0bad");
    await mkdir(died);
    assert.deepEqual(await flakes().stale(true), [], "it may still be at work");
    const hourAgo = new Date(Date.now() - 3_600_000);
    await utimes(died, hourAgo, hourAgo);
    assert.deepEqual(await flakes().stale(false), ["unfinished flake source .new-0badc0de0bad"]);
    await flakes().stale(true);
    assert.deepEqual(await readdir(join(folder, "flakes")), [source.split("/").at(-1)]);
    await flakes(Date.now() + 8 * 24 * 3_600_000).stale(true);
    assert.deepEqual(await readdir(join(folder, "flakes")), []);
  });
});
