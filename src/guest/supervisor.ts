import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { $ZodError } from "zod/v4/core";
import { NotFoundError, OperationError, describeError, isSystemError } from "../domain/errors.ts";
import type { GuestService } from "../domain/guest-service.ts";
import { maxLogLineBytes } from "../protocol/guest-messages.ts";
import type { ServiceReport } from "../protocol/guest-messages.ts";
import { guestServiceSchema } from "../protocol/guest-service.ts";
import { plainLine } from "../protocol/plain-text.ts";
import type { GuestPaths } from "./guest-paths.ts";
import { readLastLines } from "./service-log.ts";
import { ServiceRunner, serviceBackoff } from "./service-runner.ts";
import type { BackoffLimits } from "./service-runner.ts";

const maxServices = 60;
const needsPollMs = 1000;
/** Of one log file, and of one answer in all: it has to fit a frame when every byte is escaped. */
const maxLogReadBytes = 256 * 1024;
const maxLogAnswerBytes = 400 * 1024;

/** Runs the services of this guest, each once those it needs are healthy. */
export class Supervisor {
  readonly #paths: GuestPaths;
  readonly #backoff: BackoffLimits;
  readonly #runners = new Map<string, ServiceRunner>();
  /** Definitions that cannot run, with the reason. */
  readonly #refused: ServiceReport[] = [];
  #stopping = false;

  constructor(paths: GuestPaths, backoff: BackoffLimits = serviceBackoff) {
    this.#paths = paths;
    this.#backoff = backoff;
  }

  /** Reads the definitions and begins to start them; does not wait until they are up. */
  async start(): Promise<void> {
    for (const service of await this.#readServices()) {
      this.#runners.set(service.name, new ServiceRunner(service, this.#paths, this.#backoff));
    }
    for (const runner of this.#runners.values()) runner.endLeftover();
    for (const runner of this.#runners.values()) void this.#startWhenNeedsAreMet(runner);
  }

  async report(): Promise<ServiceReport[]> {
    const reports = await Promise.all([...this.#runners.values()].map((runner) => runner.report()));
    return [...this.#refused, ...reports];
  }

  /** The last lines of one service, or of all with their names. @throws NotFoundError for an unknown name. */
  logs(service: string | null, lines: number): string[] {
    if (service !== null && !this.#runners.has(service)) {
      throw new NotFoundError(`the guest has no service ${JSON.stringify(service)}`, {
        hint: `it has: ${[...this.#runners.keys()].join(", ") || "none"}`,
      });
    }
    const names = service === null ? [...this.#runners.keys()] : [service];
    const each = Math.max(1, Math.floor(lines / Math.max(1, names.length)));
    const found = names.flatMap((name) => {
      const path = join(this.#paths.logs, `${name}.log`);
      const prefix = service === null ? `${name}: ` : "";
      return readLastLines(path, each, maxLogReadBytes).map((line) => prefix + cutLine(line));
    });
    let room = maxLogAnswerBytes;
    return found.slice(-lines).filter((line) => (room -= Buffer.byteLength(line)) >= 0);
  }

  /** Ends all services, at once since their dependents lose them anyway. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    await Promise.all([...this.#runners.values()].map((runner) => runner.stop(graceMs)));
  }

  async #startWhenNeedsAreMet(runner: ServiceRunner): Promise<void> {
    const { needs } = runner.service;
    const unknown = needs.find((need) => !this.#runners.has(need));
    if (unknown !== undefined) {
      runner.hold(`needs ${unknown}, which this guest does not have`);
      return;
    }
    for (const need of needs) {
      runner.hold(`waits until ${need} is healthy`);
      while (!this.#stopping && (await this.#runners.get(need)?.report())?.health !== "healthy") {
        await sleep(needsPollMs);
      }
    }
    if (!this.#stopping) await runner.start();
  }

  async #readServices(): Promise<GuestService[]> {
    const names = await readdir(this.#paths.services).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return [];
      throw error;
    });
    const services: GuestService[] = [];
    for (const file of names.filter((name) => name.endsWith(".json")).toSorted()) {
      if (services.length + this.#refused.length >= maxServices) break;
      const name = file.slice(0, -".json".length);
      try {
        const text = await readFile(join(this.#paths.services, file), "utf8");
        const service = guestServiceSchema.parse(JSON.parse(text));
        if (service.name !== name) throw new OperationError(`its name is ${service.name}`);
        services.push(service);
      } catch (error) {
        if (!isUnusable(error)) throw error;
        const detail = `${file} is not a service: ${describeError(error)}`.slice(0, 500);
        this.#refused.push({ name: name.slice(0, 64), health: "unhealthy", detail });
      }
    }
    return services;
  }
}

/** Whether an error says that a definition cannot be read or means nothing; the others run without it. */
function isUnusable(error: unknown): boolean {
  return (
    isSystemError(error) ||
    error instanceof SyntaxError ||
    error instanceof $ZodError ||
    error instanceof OperationError
  );
}

function cutLine(line: string): string {
  return plainLine(line).slice(0, maxLogLineBytes);
}
