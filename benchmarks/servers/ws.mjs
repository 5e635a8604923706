// `ws` on node, without its optional native parts.
import { createRequire } from "node:module";

const { WebSocketServer } = createRequire(`${process.env.BENCHMARK_NODE}/`)("ws");
const flags = process.argv.slice(2);
const broadcasting = flags[flags.indexOf("--job") + 1] === "broadcast";
const compress = flags.includes("--compress");

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  backlog: 511,
  maxPayload: 64 << 20,
  perMessageDeflate: compress ? { threshold: 0 } : false,
});

function broadcast(control, length) {
  const text = "x".repeat(Number(length));
  for (const client of server.clients) if (client !== control) client.send(text);
}

server.on("connection", (ws, request) => {
  ws.on("error", () => {});
  if (!broadcasting) ws.on("message", (data, binary) => ws.send(data, { binary }));
  else if (request.url === "/control") ws.on("message", (data) => broadcast(ws, data.toString()));
});
server.on("listening", () => console.log(server.address().port));
