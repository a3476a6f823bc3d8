// BullMQ: the same commands and answers as host.py, in the one language it has. Worker: concurrency 50.
"use strict";
const fs = require("node:fs");
const readline = require("node:readline");
const { performance } = require("node:perf_hooks");
const IORedis = require("ioredis");
const { Queue, Worker } = require("bullmq");

const place = JSON.parse(process.env.BENCH_PLACE);
const connection = new IORedis(place.redis, { maxRetriesPerRequest: null });
const SECOND = 7;
const CHUNKS = { one: 100, many: 500 };

function work() {
  const ledger = fs.openSync(place.ledger, "a");
  const worker = new Worker(
    place.queue,
    async (job) => {
      fs.writeSync(ledger, `${job.data.label} ${(performance.timeOrigin + performance.now()).toFixed(3)}\n`);
    },
    { connection, concurrency: 50 },
  );
  worker.on("error", (error) => console.error(error));
}

function client() {
  const queue = new Queue(place.queue, { connection });
  // done jobs are not kept: no other peer keeps them for ever either
  const options = (at) => ({ delay: Math.max(0, at - Date.now()), removeOnComplete: true });
  const data = (label) => ({ label, number: SECOND });
  const ways = {
    one: async (items) => {
      for (const [label, at] of items) await queue.add("record", data(label), options(at));
    },
    many: async (items) => {
      for (let start = 0; start < items.length; start += 1000) {
        const part = items.slice(start, start + 1000);
        await queue.addBulk(part.map(([label, at]) => ({ name: "record", data: data(label), opts: options(at) })));
      }
    },
  };

  async function fill({ count, way, delay, spread, budget }) {
    const deadline = performance.now() + budget * 1000;
    let done = 0;
    while (done < count && performance.now() < deadline) {
      const now = Date.now();
      const size = Math.min(CHUNKS[way], count - done);
      const due = () => now + (delay + Math.random() * spread) * 1000;
      await ways[way](Array.from({ length: size }, (_, i) => [`wait${done + i}`, Math.round(due())]));
      done += size;
    }
    return done;
  }

  async function obey(command) {
    const started = performance.now();
    const seconds = () => (performance.now() - started) / 1000;
    if (command.do === "schedule") {
      await ways[command.way](command.items);
      return { seconds: seconds(), done: command.items.length };
    }
    if (command.do === "fill") {
      const done = await fill(command.with);
      return { seconds: seconds(), done };
    }
    if (command.do === "enqueue") {
      await queue.add("record", data(command.label), { removeOnComplete: true });
      return {};
    }
    throw new Error(`no such command: ${command.do}`);
  }

  console.log(JSON.stringify({ bulk: true }));
  let turn = Promise.resolve();
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    turn = turn
      .then(() => obey(JSON.parse(line)))
      .catch((error) => ({ error: String(error).slice(0, 300) }))
      .then((answer) => console.log(JSON.stringify(answer)));
  });
  lines.on("close", () => turn.then(() => process.exit(0)));
}

process.argv[2] === "client" ? client() : work();
