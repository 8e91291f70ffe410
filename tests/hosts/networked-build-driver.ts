// Builds, in the network namespace it is started in, a flake that fetches what a server outside says.
// Arguments: address and port of the server, what it will say. Prints what became of it.
import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describeError } from "../../src/domain/errors.ts";
import { BuilderHost, build } from "../contract/builder-host.ts";

const [address = "", port = "", content = ""] = process.argv.slice(2);
const host = await BuilderHost.make();
try {
  await writeFile(join(host.root, "resolv.conf"), `nameserver ${address}\n`);
  const sha256 = createHash("sha256").update(content).digest("hex");
  const flake = await host.flake(
    "fetching",
    `packages.x86_64-linux.default = let
      fetched = derivation {
        name = "fetched";
        system = "x86_64-linux";
        builder = "\${tools}/busybox";
        args = [ "sh" "-c" "\${tools}/busybox nc ${address} ${port} </dev/null >$out" ];
        outputHashMode = "flat";
        outputHashAlgo = "sha256";
        outputHash = "${sha256}";
      };
    in ${build("fetching", "$b mkdir -p $out/bin; $b cp ${fetched} $out/bin/app; $b chmod 755 $out/bin/app")};`,
  );
  const without = await host.build(flake).then(
    () => "it was built",
    (error: unknown) => describeError(error),
  );
  const revision = await host.build(flake, { network: true });
  const service = JSON.parse(await host.show(revision, "/etc/mvm/services/app.json")) as {
    command: string[];
  };
  const app = await host.show(revision, service.command[0] ?? "");
  await host.assertNothingLeft(1);
  const swept = await host.builder(false).sweep();
  const left = await host.builder(false).leftovers();
  console.log(JSON.stringify({ without, app, swept, left }));
} catch (error) {
  console.error(describeError(error));
  process.exitCode = 1;
} finally {
  await host.remove();
}
