// A session counter as it is often written: WATCH, MULTI, two HINCRBY, EXEC on one shared connection.

import { createServer } from "node:http";
import { createRequire } from "node:module";

const Redis = createRequire(`${process.env.METER_CLIENTS}/`)("ioredis");
const redis = new Redis(Number(process.env.METER_PORT));

createServer(async (request, response) => {
  if (request.method !== "POST") return response.end("ready\n");
  const parts = [];
  for await (const part of request) parts.push(part);
  const { app, node, timestamp } = JSON.parse(Buffer.concat(parts));
  const date = new Date(timestamp);
  const key = `kpi:sessions:app:${app}:node:${node}:day:${date.toISOString().slice(0, 10).replaceAll("-", "")}`;
  await redis.watch(key);
  const replies = await redis.multi().hincrby(key, "day", 1).hincrby(key, String(date.getUTCHours()), 1).exec();
  response.statusCode = replies ? 200 : 500;
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify({ key, day: replies?.[0][1], hour: replies?.[1][1] }));
}).listen(Number(process.env.PORT), "127.0.0.1");
