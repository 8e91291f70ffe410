import { type Command, buildCommand } from "@stricli/core";
import { MvmError, UsageError } from "../../domain/errors.ts";
import type { NodeOperations } from "../../node/operations.ts";
import type { CliContext } from "../context.ts";
import { renderError } from "../exit-codes.ts";
import { pause } from "../../ports/pause.ts";
import { dryRunFlag, wholeNumber } from "../parameters.ts";
import { reportReconcile } from "../render-reconcile.ts";

interface Flags {
  readonly watch: boolean;
  readonly interval: number;
  readonly dryRun: boolean;
}

const pollMs = 500;

/** `mvm deploy` */
export const deploy: Command<CliContext> = buildCommand<Flags, [string], CliContext>({
  docs: {
    brief: "Make a deployment what a manifest says",
    fullDescription:
      "Makes or changes the tenant, pools, routes and secrets of a TOML manifest and brings its instances about. What is as the manifest says is left alone. With --watch it goes on: when the manifest changes, and every interval.",
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [{ brief: "TOML file", parse: String, placeholder: "manifest" }],
    },
    flags: {
      watch: { kind: "boolean", default: false, brief: "Apply it again and again until Ctrl-C" },
      interval: {
        kind: "parsed",
        parse: wholeNumber(1, 86_400),
        default: "30",
        brief: "With --watch: apply it after so many seconds also when it has not changed",
      },
      ...dryRunFlag,
    },
  },
  async func({ watch, interval, dryRun }, path) {
    if (watch && dryRun) throw new UsageError("--dry-run shows one pass: leave --watch out");
    const node = await this.node();
    if (!watch) {
      await apply(this, node, path, dryRun);
      return;
    }
    while (!this.signal.aborted) {
      const seen = await fingerprint(path);
      try {
        await apply(this, node, path, false);
      } catch (error) {
        if (this.signal.aborted) return;
        if (!(error instanceof MvmError)) throw error;
        // A manifest that is being edited, or a host that lacks something now, may be right next time.
        this.out.note(`${renderError(error)}\nmvm: still watching ${path}`);
      }
      const endMs = Date.now() + interval * 1000;
      while (!this.signal.aborted && Date.now() < endMs && (await fingerprint(path)) === seen) {
        await pause(pollMs, this.signal);
      }
    }
  },
});

async function apply(
  context: CliContext,
  node: NodeOperations,
  path: string,
  dryRun: boolean,
): Promise<void> {
  const { readManifest } = await import("../manifest-file.ts");
  const { manifest, secrets } = await readManifest(path);
  const { changes, reconciled } = await node.applyManifest({ manifest, secrets, dryRun });
  for (const change of changes) context.out.data(change);
  if (changes.length === 0) context.out.data(`${manifest.tenant_id} is as the manifest says`);
  if (reconciled !== undefined) reportReconcile(context, reconciled);
}

/** What tells one state of a file from another; the empty text when there is none. */
async function fingerprint(path: string): Promise<string> {
  const { stat } = await import("node:fs/promises");
  try {
    const { mtimeMs, size, ino } = await stat(path);
    return `${mtimeMs} ${size} ${ino}`;
  } catch (error) {
    if (error instanceof Error && "code" in error) return "";
    throw error;
  }
}
