import { createHash } from "node:crypto";
import { join } from "node:path";
import * as z from "zod";
import { HostLacksError } from "../domain/errors.ts";
import type { TenantId } from "../domain/ids.ts";
import { readFileIfAny, sha256OfFile } from "../host/files.ts";
import type { BuildRequest } from "../ports/image-builder.ts";
import { isNotBuilt, readProfiles } from "./flake-source.ts";
import { checkGuestPrograms, guestPrograms, type ImagePlaces } from "./guest-image.ts";
import { narHash } from "./nar.ts";
import { wantedPayloads } from "./profiles.ts";

/** Changes when an image made from the same parts would come out differently. */
const pipelineVersion = 2;

/** What `mvm add host` wrote of a payload, as far as it says what the payload's content follows from. */
const payloadSchema = z.looseObject({
  version: z.string(),
  recipe: z.string(),
  packages: z.array(z.looseObject({ name: z.string(), version: z.string(), sha256: z.string() })),
});
const manifestSchema = z.looseObject({ payloads: z.record(z.string(), payloadSchema) });

/** The payloads that every image has a part of or is built by. */
const usedByAll = ["kernel", "base", "builder"] as const;

/**
 * Names all that an image is made of: the flake's content, profile, role, the payloads it has a part of
 * and mvm's own parts of the guest. 64 hex digits. Two hosts that were prepared from the same packages
 * have the same key: what a payload was made from counts, and not the bits of a disk that a build only
 * runs from. With `storeOf` it names what that tenant's kept store had a part in. @throws HostLacksError before `mvm add host`; UsageError when the flake cannot be used.
 */
export async function buildKey(
  places: ImagePlaces,
  flakeFolder: string,
  request: Pick<BuildRequest, "profile" | "role">,
  storeOf?: TenantId,
): Promise<string> {
  await checkGuestPrograms(places, request.role);
  const payloads = await readManifest(places);
  const profiles = await readProfiles(flakeFolder);
  const inputs = wantedPayloads(profiles, request.role, request.profile);
  const names = [...usedByAll, ...inputs.filter((name) => name !== "guest")];
  const parts = {
    version: pipelineVersion,
    flake: await narHash(flakeFolder, { leaveOut: isNotBuilt }),
    // What a kept store was part of is the tenant's alone: its earlier builds could have forged a part.
    store: storeOf ?? null,
    profile: request.profile,
    role: request.role,
    inputs,
    payloads: names.map((name) => {
      const payload = payloads[name];
      if (payload === undefined) throw notPrepared(name);
      return [name, payload.version, payload.recipe, payload.packages];
    }),
    guest: await narHash(join(places.project, "nix", "guest")),
    builder: await narHash(join(places.project, "nix", "builder")),
    programs: await Promise.all(
      guestPrograms(request.role).map((name) =>
        sha256OfFile(join(places.project, "dist", "guest", name)),
      ),
    ),
  };
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

/** @throws HostLacksError */
export function notPrepared(payload: string, cause?: unknown): HostLacksError {
  return new HostLacksError(`${payload} is not prepared on this host`, {
    hint: "run `mvm add host`",
    cause,
  });
}

async function readManifest(
  places: ImagePlaces,
): Promise<z.infer<typeof manifestSchema>["payloads"]> {
  const text = await readFileIfAny(join(places.payloads, "manifest.json"));
  const missing = (cause?: unknown): HostLacksError =>
    new HostLacksError("this host is not prepared for builds", {
      hint: "run `mvm add host`",
      cause,
    });
  if (text === undefined) throw missing();
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) throw missing(error);
    throw error;
  }
  const manifest = manifestSchema.safeParse(value);
  if (!manifest.success) throw missing(manifest.error);
  return manifest.data.payloads;
}
