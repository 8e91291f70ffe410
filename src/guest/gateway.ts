import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { OperationError, describeError } from "../domain/errors.ts";
import { guestConfigSchema } from "../protocol/guest-config.ts";
import type { GatewayRoute } from "../protocol/guest-config.ts";
import { listenRoute } from "./gateway-route.ts";
import { guestPaths } from "./guest-paths.ts";

const healthPort = 9180;

async function readRoutes(): Promise<readonly GatewayRoute[]> {
  return guestConfigSchema.parse(JSON.parse(await readFile(guestPaths.config, "utf8")))
    .gateway_routes;
}

async function main(): Promise<void> {
  const routes = await readRoutes();
  const problems: string[] = [];
  for (const route of routes) {
    try {
      await listenRoute(route, { host: "0.0.0.0" });
    } catch (error) {
      if (!(error instanceof OperationError)) throw error;
      // The other routes are worth having; health says which one is missing.
      problems.push(`${route.name}: ${describeError(error)}`);
    }
  }
  const health = createServer((request, response) => {
    const ok = problems.length === 0;
    const found = request.method === "GET" && request.url === "/healthz";
    response.writeHead(found ? (ok ? 200 : 503) : 404, { "content-type": "application/json" });
    response.end(found ? JSON.stringify({ ok, routes: routes.length, problems }) : "{}");
  });
  health.maxConnections = 16;
  health.listen(healthPort, "127.0.0.1");
  process.on("SIGTERM", () => process.exit(0));
}

await main();
