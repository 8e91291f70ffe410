// Calls the real adapter of builders' networks inside the network namespace it is started in.
// Arguments: state folder, resolv.conf, `open`, `close` or `list`, build id. Prints what it answers.
import { describeError } from "../../src/domain/errors.ts";
import { HostExec } from "../../src/host/exec.ts";
import { LinuxBuilderNetwork } from "../../src/host/net/builder-network.ts";

const [stateDir = "", resolvConf = "", call = "", buildId = ""] = process.argv.slice(2);
const network = new LinuxBuilderNetwork({
  exec: new HostExec(),
  vmUid: 899_998,
  stateDir,
  resolvConfs: [resolvConf],
  withNode: (_what, work) => work(),
});
try {
  if (call === "open") console.log(JSON.stringify(await network.open(buildId)));
  else if (call === "close") await network.close(buildId);
  else console.log(JSON.stringify(await network.list()));
} catch (error) {
  console.error(describeError(error));
  process.exitCode = 1;
}
