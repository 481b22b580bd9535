// The commands through ioredis.

import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";

import { callAllOverACluster, limiters } from "./limiters.mjs";
import { AT, CLUSTER_PORT, PORT, Redis } from "./support.mjs";

const library = (options) => ({
  connect: (port) => new Redis({ port, ...options }),
  call: (client, words) => client.call(...words),
  pipeline: async (client, calls) => replies(await client.pipeline(calls.map((words) => ["call", ...words])).exec()),
  transaction: async (client, calls) => replies(await client.multi(calls.map((words) => ["call", ...words])).exec()),
  close: (client) => client.disconnect(),
  ReplyError: Redis.ReplyError,
  maps: options.replyMapping === "resp3",
});

const replies = (results) => results.map(([error, reply]) => error ?? reply);

limiters("ioredis, RESP2", library({ protocol: 2 }));
limiters("ioredis, RESP3 as it comes", library({ protocol: 3 }));
limiters("ioredis, RESP3 with its own types", library({ protocol: 3, replyMapping: "resp3" }));
limiters("ioredis, RESP2, pipelined by itself", library({ protocol: 2, enableAutoPipelining: true }));

describe("ioredis", () => {
  let client;
  before(() => (client = new Redis({ port: PORT })));
  beforeEach(() => client.flushall());
  after(() => client.disconnect());

  function connect(t) {
    const other = client.duplicate();
    t.after(() => other.disconnect());
    return other;
  }

  test("a transaction that a hit invalidates is tried again", async (t) => {
    const other = connect(t);
    await client.call("METER.HIT", "kpi", "AT", AT, "BY", 5);
    const seen = [];
    let results = null;
    while (results === null) {
      await client.watch("kpi");
      const [count] = await client.call("METER.HIT", "kpi", "AT", AT, "BY", 0);
      if (seen.length === 0) await other.call("METER.HIT", "kpi", "AT", AT);
      seen.push(count);
      results = await client.multi().call("METER.HIT", "kpi", "AT", AT, "BY", count).exec();
    }
    assert.deepEqual(results, [[null, [12, 12, 6]]]);
    assert.deepEqual(seen, [5, 6]);
  });

  test("a refusal invalidates no transaction", async (t) => {
    const other = connect(t);
    await client.call("CELL.THROTTLE", "user", 0, 1, 3600);
    await client.watch("user");
    assert.equal((await other.call("CELL.THROTTLE", "user", 0, 1, 3600))[0], 1);
    assert.deepEqual(await client.multi().call("EXISTS", "user").exec(), [[null, 1]]);
  });

  test("a command of its own is a script that calls ours", async () => {
    client.defineCommand("attempt", {
      numberOfKeys: 1,
      lua: "return redis.call('CELL.WINDOW', KEYS[1], ARGV[1], 3600)[1] == 0",
    });
    const passed = [await client.attempt("user", 2), await client.attempt("user", 2), await client.attempt("user", 2)];
    assert.deepEqual(passed, [1, 1, null]);
  });

  test("buffers come back as bytes", async () => {
    await client.callBuffer("METER.HIT", Buffer.from([0xff]), "AT", AT);
    const span = await client.callBuffer("METER.KPI", Buffer.from([0xff]), "FROM", 20220809, "TO", 20220809);
    assert.deepEqual(span, [[Buffer.from("20220809"), 1]]);
    assert.deepEqual(await client.zrangeBuffer(Buffer.from([0xff]), 0, -1), [Buffer.from("20220809")]);
  });

  test("a cluster client finds the node of every key", async (t) => {
    const cluster = new Redis.Cluster([{ host: "127.0.0.1", port: CLUSTER_PORT }]);
    t.after(() => cluster.disconnect());
    await cluster.ping(); // knows the nodes from now on
    await Promise.all(cluster.nodes("master").map((node) => node.flushall()));
    await callAllOverACluster((_key, words) => cluster.call(...words));
  });
});
