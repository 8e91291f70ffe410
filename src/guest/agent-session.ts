import { ConflictError, MvmError, OperationError, describeError } from "../domain/errors.ts";
import { FrameDecoder, encodeFrame } from "../protocol/frames.ts";
import { guestProtocolVersion, maxGuestFrameBytes } from "../protocol/guest-messages.ts";
import type { HealthReport, HelloAnswer } from "../protocol/guest-messages.ts";
import { parseGuestRequest, requestIdOf } from "../protocol/guest-requests.ts";
import type { GuestRequest, HelloRequest } from "../protocol/guest-requests.ts";
import type { AgentPort, PortEvents } from "./agent-port.ts";
import { ExecTable } from "./exec-table.ts";

const maxPendingRequests = 64;

/** What the agent can do, apart from running commands. */
export interface AgentServices {
  readonly bootId: string;
  readonly instanceId: string;
  health(): Promise<HealthReport>;
  logs(service: string | null, lines: number): string[];
  /** Begins to end the guest; does not wait. */
  shutdown(graceSeconds: number): void;
}

interface Session {
  readonly execs: ExecTable;
  pending: number;
}

/**
 * Answers a host, one session at a time: a session begins with `Hello` and ends with the next
 * `Hello` or when the host disconnects, and with it end the commands it runs.
 */
export class AgentSessions implements PortEvents {
  readonly #port: AgentPort;
  readonly #services: AgentServices;
  readonly #decoder = new FrameDecoder();
  #session: Session | undefined;

  constructor(port: AgentPort, services: AgentServices) {
    this.#port = port;
    this.#services = services;
  }

  onBytes(bytes: Buffer): void {
    try {
      for (const value of this.#decoder.push(bytes)) this.#onFrame(value);
    } catch (error) {
      if (!(error instanceof OperationError)) throw error;
      // The stream has lost its frame boundaries. Silence makes the host reconnect, which resets it.
      this.#endSession();
    }
  }

  onSilence(): void {
    this.#decoder.reset();
  }

  onDisconnect(): void {
    this.#endSession();
  }

  #onFrame(value: unknown): void {
    const id = requestIdOf(value);
    if (id === undefined) return;
    let request: GuestRequest;
    try {
      request = parseGuestRequest(value);
    } catch (error) {
      this.#sendError(id, error);
      return;
    }
    if (request.op === "Hello") {
      this.#begin(request);
      return;
    }
    const session = this.#session;
    if (session === undefined) {
      this.#sendError(id, new ConflictError("a session begins with Hello"));
    } else if (session.pending >= maxPendingRequests) {
      this.#sendError(id, new ConflictError(`${maxPendingRequests} requests are pending`));
    } else void this.#answer(session, request);
  }

  #begin(request: HelloRequest): void {
    this.#endSession();
    const session: Session = {
      pending: 0,
      execs: new ExecTable({
        send: (execId, progress) =>
          this.#session === session ? this.#send({ id: execId, progress }) : true,
        drained: () => this.#port.drained(),
      }),
    };
    this.#session = session;
    // The nonce comes first: the host looks for these very bytes among what an older session left.
    const result: HelloAnswer = {
      nonce: request.nonce,
      protocol: "mvm-guest",
      version: guestProtocolVersion,
      boot_id: this.#services.bootId,
      instance_id: this.#services.instanceId,
    };
    this.#send({ id: request.id, ok: true, result });
  }

  async #answer(session: Session, request: Exclude<GuestRequest, HelloRequest>): Promise<void> {
    session.pending += 1;
    try {
      const result = await this.#serve(session, request);
      if (this.#session === session) this.#send({ id: request.id, ok: true, result });
    } catch (error) {
      if (this.#session === session) this.#sendError(request.id, error);
    } finally {
      session.pending -= 1;
    }
  }

  async #serve(
    session: Session,
    request: Exclude<GuestRequest, HelloRequest>,
  ): Promise<Readonly<object>> {
    switch (request.op) {
      case "Ping":
        return {};
      case "Health":
        return await this.#services.health();
      case "Exec":
        return { exit_code: await session.execs.run(request) };
      case "ExecInput":
        await session.execs.input(request);
        return {};
      case "ExecResize":
        await session.execs.resize(request);
        return {};
      case "ExecCancel":
        session.execs.cancel(request.exec_id);
        return {};
      case "Logs":
        return { lines: this.#services.logs(request.service, request.lines) };
      case "Shutdown":
        this.#services.shutdown(request.grace_seconds);
        return {};
      default:
        return request satisfies never;
    }
  }

  #endSession(): void {
    this.#session?.execs.cancelAll();
    this.#session = undefined;
    this.#port.dropQueue();
  }

  #send(message: Readonly<object>): boolean {
    return this.#port.send(encodeFrame(message, maxGuestFrameBytes));
  }

  #sendError(id: number, error: unknown): void {
    const code = error instanceof MvmError ? error.code : "failed";
    this.#send({ id, error: { code, message: describeError(error).slice(0, 2000) } });
  }
}
