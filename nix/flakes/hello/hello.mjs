// Answers with the name of the machine it runs on, so that a caller can tell instances apart.
import { createServer } from "node:http";
import { hostname } from "node:os";

const port = Number(process.env.PORT ?? "8080");

const server = createServer((request, response) => {
  if (request.url === "/healthz") {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(`${JSON.stringify({ ok: true })}\n`);
  } else if (request.url === "/") {
    response.writeHead(200, { "content-type": "text/plain" });
    response.end(`hello from ${hostname()}\n`);
  } else {
    response.writeHead(404, { "content-type": "text/plain" });
    response.end("not found\n");
  }
});

server.listen(port, "0.0.0.0", () => process.stdout.write(`listening on port ${port}\n`));
process.once("SIGTERM", () => {
  server.close();
  server.closeAllConnections();
});
