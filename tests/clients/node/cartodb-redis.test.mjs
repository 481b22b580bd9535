// CL.THROTTLE through cartodb-redis, whose rate limits were written for redis-cell: a list of limits, each of which a
// Lua script asks; over an old node_redis.

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { promisify } from "node:util";

import { cartodb, Pool, PORT, Redis } from "./support.mjs";

const pool = new Pool({ port: PORT });
const metadata = cartodb({ pool });
const rateLimit = promisify((user, callback) => metadata.getRateLimit(user, "maps", "tile", callback));
const loadScript = promisify((callback) => metadata.loadRateLimitsScript(callback));
const redis = new Redis({ port: PORT, db: metadata.rate_limits_db });

before(() => loadScript());
beforeEach(() => redis.flushall());
after(async () => {
  redis.disconnect();
  await pool.destroy();
});

const allow = (user, ...limits) => redis.rpush(`limits:rate:store:${user}:maps:tile`, ...limits.flat());

test("a user without limits has none", async () => {
  assert.equal(await rateLimit("free"), undefined);
});

test("the strictest of two limits answers", async () => {
  await allow("ann", [9, 1, 3600], [2, 1, 3600]);
  for (const remaining of [2, 1, 0]) {
    assert.deepEqual((await rateLimit("ann")).slice(0, 4), [0, 3, remaining, -1]);
  }
  const [blocked, limit, remaining, retry, reset] = await rateLimit("ann");
  assert.deepEqual([blocked, limit, remaining], [1, 3, 0]);
  assert.ok(3540 < retry && retry <= 3600 && retry < reset, `${retry} ${reset}`);
  assert.deepEqual((await redis.keys("limits:rate:status:*")).sort(), [
    "limits:rate:status:ann:maps:tile:1",
    "limits:rate:status:ann:maps:tile:2",
  ]);
});
