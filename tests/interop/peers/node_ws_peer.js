// Node's `ws`, as client and server. The commands are those of control.py; `connect` also takes a version of the
// protocol, and `accept` tells which one was asked for.
"use strict";

const net = require("net");
const readline = require("readline");
const { WebSocket, WebSocketServer } = require("ws");

const NAMES = {
  server_no_context_takeover: "serverNoContextTakeover",
  client_no_context_takeover: "clientNoContextTakeover",
  server_max_window_bits: "serverMaxWindowBits",
  client_max_window_bits: "clientMaxWindowBits",
};

function deflate(compression) {
  if (compression === null) return false;
  const options = { threshold: 0 };
  for (const [name, value] of Object.entries(compression)) options[NAMES[name]] = value;
  return options;
}

// What came, in order, for whoever asks.
class Queue {
  constructor() {
    this.items = [];
    this.waiting = [];
  }
  put(item) {
    if (this.waiting.length) this.waiting.shift()(item);
    else this.items.push(item);
  }
  get() {
    if (this.items.length) return Promise.resolve(this.items.shift());
    return new Promise((resolve) => this.waiting.push(resolve));
  }
}

let ws, server, received, pongs;
let accepted = new Queue();

function adopt(socket) {
  socket.received = new Queue();
  socket.pongs = new Queue();
  socket.on("message", (data, isBinary) => socket.received.put(isBinary ? { binary: data.toString("base64") } : { text: data.toString() }));
  socket.on("close", (code, reason) => socket.received.put({ closed: [code, reason.toString()] }));
  socket.on("error", (error) => socket.received.put({ error: String(error) }));
  socket.on("pong", (data) => socket.pongs.put(data.toString()));
  return socket;
}

function use(socket) {
  ws = socket;
  received = socket.received;
  pongs = socket.pongs;
  return { protocol: ws.protocol, compressed: ws.extensions.includes("permessage-deflate"), version: ws.version };
}

const decode = (message) => ("text" in message ? message.text : Buffer.from(message.binary, "base64"));

function sent(data, options) {
  return new Promise((resolve, reject) => ws.send(data, options, (error) => (error ? reject(error) : resolve(null))));
}

async function next(kind) {
  const got = await received.get();
  if (kind === "closed" ? "closed" in got : "text" in got || "binary" in got) return got;
  throw new Error(`expected ${kind}, got ${JSON.stringify(got).slice(0, 80)}`);
}

const COMMANDS = {
  listen({ compression, protocols, hello }) {
    if (server) server.close();
    const choose = protocols && { handleProtocols: (offered) => protocols.find((one) => offered.has(one)) || false };
    server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: deflate(compression), ...choose });
    server.on("connection", (socket, request) => {
      adopt(socket).version = request.headers["sec-websocket-version"];
      if (hello !== null) socket.send(hello);
      accepted.put(socket);
    });
    return new Promise((resolve) => server.on("listening", () => resolve(server.address().port)));
  },
  async accept() {
    return use(await accepted.get());
  },
  connect({ url, compression, protocols, version, origin }) {
    const options = { perMessageDeflate: deflate(compression), protocolVersion: version || 13, origin };
    const socket = adopt(new WebSocket(url, protocols || [], options));
    return new Promise((resolve, reject) => {
      socket.on("open", () => resolve(use(socket)));
      socket.on("error", reject);
    });
  },
  async send({ messages }) {
    await Promise.all(messages.map((message) => sent(decode(message), {})));
    return null;
  },
  async send_fragments({ pieces }) {
    for (const [index, piece] of pieces.entries()) {
      const binary = "binary" in piece;
      await sent(decode(piece), { binary, fin: index === pieces.length - 1 });
      if (index === 0) ws.ping("between"); // two fragments
    }
    if ((await pongs.get()) !== "between") throw new Error("not the pong to our ping");
    return null;
  },
  async recv({ count }) {
    const messages = [];
    while (messages.length < count) messages.push(await next("a message"));
    return messages;
  },
  ping({ data }) {
    ws.ping(data);
    return pongs.get();
  },
  async close({ code, reason }) {
    if (code === 1005) ws.close();
    else ws.close(code, reason);
    return (await next("closed")).closed;
  },
  async closed() {
    return (await next("closed")).closed;
  },
  async terminate() {
    ws.terminate();
    await next("closed");
    return null;
  },
};

const control = net.connect(Number(process.argv[2]), "127.0.0.1");
control.on("close", () => process.exit(0));
readline.createInterface({ input: control, crlfDelay: Infinity }).on("line", async (line) => {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = { result: await COMMANDS[command.do](command) };
  } catch (error) {
    answer = { error: String(error) };
  }
  control.write(JSON.stringify(answer) + "\n");
});
