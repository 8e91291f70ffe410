import type { CliContext } from "./context.ts";
import { MvmError } from "../domain/errors.ts";

/** Proposes the names that begin as a word does; `this` is what stricli hands to a parameter. */
type Propose = (this: CliContext, partial: string) => Promise<readonly string[]>;

/** A shell asks at each key: what cannot be read now proposes nothing, and never breaks the line. */
function names(
  read: (context: CliContext, partial: string) => Promise<readonly string[]>,
): Propose {
  return async function (partial) {
    try {
      return (await read(this, partial)).filter((name) => name.startsWith(partial));
    } catch (error) {
      if (error instanceof MvmError) return [];
      throw error;
    }
  };
}

async function readTenants(context: CliContext): Promise<string[]> {
  const { tenants } = await (await context.records()).tenants();
  return tenants.map(({ tenant_id }) => tenant_id);
}

async function readPools(context: CliContext): Promise<string[]> {
  return (await (await context.records()).pools()).map(({ address }) => address);
}

async function readInstances(context: CliContext, partial: string): Promise<string[]> {
  const addresses = (await (await context.records()).instances()).map(({ address }) => address);
  // An id alone is enough for a command; it is proposed to who begins to write one.
  return partial.startsWith("i-")
    ? addresses.map((address) => address.slice(address.lastIndexOf("/") + 1))
    : addresses;
}

export const proposeTenants: Propose = names(readTenants);
export const proposePools: Propose = names(readPools);
export const proposeInstances: Propose = names(readInstances);
export const proposeObjects: Propose = names(async (context, partial) => [
  ...(await readTenants(context)),
  ...(await readPools(context)),
  ...(await readInstances(context, partial)),
]);

export const shells = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof shells)[number];

/** The word before the words to complete, for the scripts below. */
export const completeWord = "__complete";

/** What a shell reads once so that it asks mvm at each completion. The last word is the one to complete. */
export const completionScripts: Readonly<Record<Shell, string>> = {
  bash: `_mvm() {
  local found
  COMPREPLY=()
  while IFS= read -r found; do
    COMPREPLY+=("$found")
  done < <(mvm ${completeWord} "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null </dev/null)
}
complete -o default -F _mvm mvm`,
  zsh: `#compdef mvm
_mvm() {
  local -a found
  found=("\${(@f)$(mvm ${completeWord} "\${(@)words[2,CURRENT]}" 2>/dev/null </dev/null)}")
  compadd -a found
}
compdef _mvm mvm`,
  fish: `function __mvm_complete
  set -l words (commandline --tokenize --cut-at-cursor --current-process)
  mvm ${completeWord} $words[2..] (commandline --current-token --cut-at-cursor | string collect --allow-empty) 2>/dev/null </dev/null
end
complete --command mvm --no-files --arguments '(__mvm_complete)'`,
};
