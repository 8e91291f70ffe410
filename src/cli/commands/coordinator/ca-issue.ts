import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Command, buildCommand } from "@stricli/core";
import { UsageError } from "../../../domain/errors.ts";
import type { CliContext } from "../../context.ts";
import { optionalText, wholeNumber } from "../../parameters.ts";
import { readInput } from "../../read-input.ts";
import { maxPemBytes } from "../agent/pem.ts";

const dayMs = 86_400_000;
const longestDays = 825;

interface Flags {
  readonly request?: string;
  readonly nodeId?: string;
  readonly coordinator?: string;
  readonly outDir?: string;
  readonly days: number;
}

/** `mvm coordinator ca issue` */
export const caIssue: Command<CliContext> = buildCommand<Flags, [], CliContext>({
  docs: {
    brief: "Issue a certificate: answer a node's request, or make one for a coordinator",
    fullDescription:
      "With --request it answers a node's signing request and prints the certificate; of the request only the key and the node's id are taken. With --coordinator it makes key and certificate for another coordinator, in --out-dir.",
  },
  parameters: {
    flags: {
      request: optionalText("A node's signing request, as PEM; - for standard input", "file"),
      nodeId: optionalText("Refuse a request of another node than this", "id"),
      coordinator: optionalText("Name of another coordinator, which gets a key too", "name"),
      outDir: optionalText("Folder for the other coordinator's files", "folder"),
      days: {
        kind: "parsed",
        parse: wholeNumber(1, longestDays),
        default: "90",
        brief: "How long it is good for",
      },
    },
  },
  async func({ request, nodeId, coordinator, outDir, days }) {
    if ((request === undefined) === (coordinator === undefined)) {
      throw new UsageError("give either --request or --coordinator");
    }
    const authority = await this.authority();
    const lifeMs = days * dayMs;
    if (request !== undefined) {
      const bytes = await readInput(this.stdin, request, {
        what: "the request",
        maxBytes: maxPemBytes,
      });
      const { issued, certificatePem } = await authority.issue(
        { requestPem: bytes.toString("utf8"), expectedId: nodeId, role: "node" },
        lifeMs,
        Date.now(),
      );
      this.out.data(certificatePem.trim());
      this.out.note(`issued ${issued.serial} for node ${issued.id} until ${issued.expires_at}`);
      return;
    }
    if (coordinator === undefined || outDir === undefined) {
      throw new UsageError("--coordinator needs --out-dir, a folder for its key and certificate");
    }
    const { issued, certificatePem, keyPem } = await authority.issue(
      { role: "coordinator", id: coordinator },
      lifeMs,
      Date.now(),
    );
    // Never over a key that is there: it may be the only one somebody has.
    await writeFile(join(outDir, "coordinator.key"), keyPem ?? "", { mode: 0o600, flag: "wx" });
    await writeFile(join(outDir, "coordinator.crt"), certificatePem, { flag: "wx" });
    await writeFile(join(outDir, "ca.crt"), (await authority.identity(Date.now())).caPem);
    this.out.data(
      `issued ${issued.serial} for coordinator ${issued.id} until ${issued.expires_at}, in ${outDir}`,
    );
  },
});
