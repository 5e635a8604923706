// `ws` on node, without its optional native parts.
import { createRequire } from "node:module";
import { parseArgs } from "node:util";

const { WebSocket } = createRequire(`${process.env.BENCHMARK_NODE}/`)("ws");
const STRIDE = 500;
const { values } = parseArgs({
  options: {
    port: { type: "string" },
    seconds: { type: "string", default: "1" },
    warmup: { type: "string", default: "0.3" },
    size: { type: "string", default: "32" },
    job: { type: "string", default: "echo" },
  },
});
const seconds = Number(values.seconds);
const text = "x".repeat(Number(values.size));
const clock = () => performance.now() / 1000;
const ws = new WebSocket(`ws://127.0.0.1:${values.port}/`, { perMessageDeflate: false });
const latencies = [];
let count = 0;
let warm = 0;
let began = 0;
let cpu;

function finish(now) {
  const took = now - began;
  const used = process.cpuUsage(cpu);
  const result = { count, seconds: took, rate: count / took, busy: (used.user + used.system) / 1e6 / took };
  latencies.sort((a, b) => a - b);
  for (const mark of latencies.length ? [50, 99] : []) {
    result[`p${mark}`] = latencies[Math.floor((latencies.length * mark) / 100)] * 1e6;
  }
  console.log(JSON.stringify(result));
  process.exit(0);
}

// Whether the measurement has begun; begins it when the warm-up is over.
function measuring(now) {
  if (began || now < warm) return Boolean(began);
  began = now;
  cpu = process.cpuUsage();
  count = 0;
  return false;
}

let before = 0;
function reply(data) {
  data.toString();
  const now = clock();
  if (measuring(now)) {
    latencies.push(now - before);
    count += 1;
    if (now >= began + seconds) finish(now);
  }
  before = now;
  ws.send(text);
}

function flooded(data) {
  data.toString();
  count += 1;
  if (count % STRIDE) return;
  const now = clock();
  if (measuring(now) && now >= began + seconds) finish(now);
}

ws.on("open", () => {
  warm = clock() + Number(values.warmup);
  before = clock();
  if (values.job === "echo") ws.send(text);
});
ws.on("message", values.job === "echo" ? reply : flooded);
