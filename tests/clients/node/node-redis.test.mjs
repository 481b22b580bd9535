// The commands through node-redis.

import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";

import { callAllOverACluster, limiters } from "./limiters.mjs";
import { AT, CLUSTER_PORT, PORT, redis } from "./support.mjs";

/** The library sends strings and buffers only. */
const strings = (words) => words.map((word) => (Buffer.isBuffer(word) ? word : String(word)));

const hit = (n) => strings(["METER.HIT", "kpi", "AT", AT, "BY", n]);

const library = (RESP) => ({
  connect: (port) => redis.createClient({ RESP, socket: { port } }).connect(),
  call: (client, words) => client.sendCommand(strings(words)),
  // Whatever is sent before an answer is awaited, goes in one pipeline.
  pipeline: async (client, calls) => {
    const results = await Promise.allSettled(calls.map((words) => client.sendCommand(strings(words))));
    return results.map(({ value, reason }) => reason ?? value);
  },
  transaction: (client, calls) =>
    calls.reduce((multi, words) => multi.addCommand(strings(words)), client.multi()).exec(),
  close: (client) => client.close(),
  ReplyError: redis.ErrorReply,
  maps: RESP === 3,
});

limiters("node-redis, RESP2", library(2));
limiters("node-redis, RESP3", library(3));

describe("node-redis", () => {
  const OPTIONS = { RESP: 3, socket: { port: PORT } };
  let client;
  before(async () => (client = await redis.createClient(OPTIONS).connect()));
  beforeEach(() => client.flushAll());
  after(() => client.close());

  async function connect(t, options) {
    const other = await redis.createClient({ ...OPTIONS, ...options }).connect();
    t.after(() => other.close());
    return other;
  }

  test("a transaction that a hit invalidates is tried again", async (t) => {
    const other = await connect(t);
    await client.sendCommand(hit(5));
    const seen = [];
    let replies;
    while (replies === undefined) {
      await client.watch("kpi");
      const [count] = await client.sendCommand(hit(0));
      if (seen.length === 0) await other.sendCommand(hit(1));
      seen.push(count);
      try {
        replies = await client.multi().addCommand(hit(count)).exec();
      } catch (error) {
        assert.ok(error instanceof redis.WatchError, error);
      }
    }
    assert.deepEqual(replies, [[12, 12, 6]]);
    assert.deepEqual(seen, [5, 6]);
  });

  test("a refusal invalidates no transaction", async (t) => {
    const other = await connect(t);
    const throttle = ["CELL.THROTTLE", "user", "0", "1", "3600"];
    await client.sendCommand(throttle);
    await client.watch("user");
    assert.equal((await other.sendCommand(throttle))[0], 1);
    assert.deepEqual(await client.multi().exists("user").exec(), [1]);
  });

  test("a pipeline without a transaction", async () => {
    const pipeline = client.multi();
    for (let number = 0; number < 1000; number++) pipeline.addCommand(hit(1));
    assert.deepEqual((await pipeline.execAsPipeline()).at(-1), [1000, 1000, 1]);
  });

  test("a script of its own calls ours", async (t) => {
    const attempt = redis.defineScript({
      NUMBER_OF_KEYS: 1,
      SCRIPT: "return redis.call('CELL.WINDOW', KEYS[1], ARGV[1], 3600)",
      parseCommand: (parser, key, limit) => {
        parser.pushKey(key);
        parser.push(String(limit));
      },
      transformReply: ([limited]) => limited === 0,
    });
    const scripted = await connect(t, { scripts: { attempt } });
    const passed = [];
    for (let time = 0; time < 3; time++) passed.push(await scripted.attempt("user", 2));
    assert.deepEqual(passed, [true, true, false]);
  });

  test("a map and its bytes come as the types that are asked for", async () => {
    const info = await client.info("server");
    await client.sendCommand(hit(1));
    const { MAP, BLOB_STRING } = redis.RESP_TYPES;
    const options = { typeMapping: { [MAP]: Array, [BLOB_STRING]: Buffer } };
    const day = await client.sendCommand(["METER.KPI", "kpi", "DAY", "20220809"], options);
    assert.deepEqual(day, [Buffer.from("day"), 1, Buffer.from("14"), 1], info);
    if (/redis_version:6/.test(info)) return; // a module could not answer a map
    const map = await client.sendCommand(["METER.KPI", "kpi", "DAY", "20220809"], { typeMapping: { [MAP]: Map } });
    assert.deepEqual(map, new Map([["day", 1], ["14", 1]]));
  });

  test("a pool of connections takes no more than there is", async (t) => {
    const pool = await redis.createClientPool(OPTIONS, { maximum: 8 }).connect();
    t.after(() => pool.close());
    const ask = () => pool.sendCommand(["CELL.LOG", "user", "10", "3600"]);
    const answers = await Promise.all(Array.from({ length: 100 }, ask));
    assert.equal(answers.filter(([limited]) => limited === 0).length, 10);
  });

  test("a cluster client finds the node of every key", async (t) => {
    const cluster = redis.createCluster({
      rootNodes: [{ socket: { host: "127.0.0.1", port: CLUSTER_PORT } }],
      RESP: 3,
    });
    await cluster.connect();
    t.after(() => cluster.close());
    for (const node of cluster.masters) await (await cluster.nodeClient(node)).flushAll();
    await callAllOverACluster((key, words) => cluster.sendCommand(key, false, strings(words)));
  });
});
