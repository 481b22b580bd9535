// What the commands answer, the same through every client library.

import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { AT, HAVE_TWINS, PORT, REPLICA_PORT, THREE_AN_HOUR } from "./support.mjs";

const BINARY = Buffer.concat([Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)), Buffer.from("\r\n$3\r\n")]);

/**
 * Runs the tests through `library`:
 *
 * - `connect(port)`: a client
 * - `call(client, words)`: the reply
 * - `pipeline(client, calls)`, `transaction(client, calls)`: the replies, errors among them
 * - `close(client)`
 * - `ReplyError`: the class of errors that the server answers
 * - `maps`: whether a map comes as an object
 */
export function limiters(name, library) {
  describe(name, () => {
    let client, is7OrLater;
    const call = (...words) => library.call(client, words);
    const fails = (message, ...words) => rejects(call(...words), message);
    const rejects = (promise, message) =>
      assert.rejects(promise, (error) => {
        assert.ok(error instanceof library.ReplyError, error);
        assert.match(error.message, message);
        return true;
      });

    before(async () => {
      client = await library.connect(PORT);
      is7OrLater = Number((await call("INFO", "server")).match(/redis_version:(\d+)/)[1]) >= 7;
    });
    beforeEach(() => call("FLUSHALL"));
    after(() => library.close(client));

    /** Another client, closed after `use`. */
    async function on(port, use) {
      const other = await library.connect(port);
      try {
        return await use((...words) => library.call(other, words));
      } finally {
        await library.close(other);
      }
    }

    async function onReplica(use) {
      assert.equal(await call("WAIT", 1, 20_000), 1);
      return on(REPLICA_PORT, use);
    }

    /** How METER.KPI answers a day. Before Redis 7, a module could not answer a map. */
    const day = (pairs) => (library.maps && is7OrLater ? Object.fromEntries(pairs) : pairs.flat());

    /** The five integers; the times may be a minute less than expected, for a test that was slow. */
    function assertFive(answer, limited, limit, remaining, ...times) {
      assert.ok(answer.length === 5 && answer.every(Number.isInteger), `${answer}`);
      assert.deepEqual(answer.slice(0, 3), [limited, limit, remaining]);
      times.forEach((expected, index) => {
        const actual = answer[3 + index];
        const least = expected - Math.min(60, Math.max(expected, 0));
        assert.ok(least <= actual && actual <= expected, `${answer}: ${times}`);
      });
    }

    test("a limiter answers five integers", async () => {
      for (const name of ["CELL.THROTTLE", "CL.THROTTLE"]) {
        assertFive(await call(name, name, 2, 1, 3600), 0, 3, 2, -1, 3600);
        assertFive(await call(name, name, 2, 1, 3600, 2), 0, 3, 0, -1, 10800);
        assertFive(await call(name, name, 2, 1, 3600), 1, 3, 0, 3600, 10800);
        assertFive(await call(name, name, 2, 1, 3600, 4), 1, 3, 0, -1, 10800);
      }
    });

    for (const [name, numbers] of Object.entries(THREE_AN_HOUR)) {
      test(`${name} admits three and refuses the fourth`, async () => {
        for (const remaining of [2, 1, 0]) {
          assert.deepEqual((await call(name, "user", ...numbers)).slice(0, 4), [0, 3, remaining, -1]);
        }
        const [limited, limit, remaining, retryAfter, resetAfter] = await call(name, "user", ...numbers);
        assert.deepEqual([limited, limit, remaining], [1, 3, 0]);
        assert.ok(0 < retryAfter && retryAfter <= resetAfter);
      });

      test(`${name}: a look takes nothing and what is given back is there again`, async () => {
        const full = [0, 3, 3, -1, 0];
        assert.deepEqual(await call(name, "user", ...numbers, 0), full);
        assert.equal(await call("EXISTS", "user"), 0);
        for (const [quantity, remaining] of [[2, 1], [0, 1], [-1, 2]]) {
          assert.equal((await call(name, "user", ...numbers, quantity))[2], remaining);
        }
        assert.deepEqual(await call(name, "user", ...numbers, -9), full);
        assert.equal(await call("EXISTS", "user"), 0);
      });
    }

    for (const name of HAVE_TWINS) {
      test(`${name}_RO answers what the call would, on a replica too`, async () => {
        const numbers = THREE_AN_HOUR[name];
        for (const remaining of [2, 1, 0]) {
          for (const which of [`${name}_RO`, `${name}_RO`, name]) {
            assert.deepEqual((await call(which, "user", ...numbers)).slice(0, 4), [0, 3, remaining, -1]);
          }
        }
        await onReplica(async (replica) => {
          assert.deepEqual((await replica(`${name}_RO`, "user", ...numbers)).slice(0, 3), [1, 3, 0]);
          await rejects(replica(name, "user", ...numbers), /^READONLY /);
        });
      });
    }

    test("a replica answers METER.KPI and refuses METER.HIT", async () => {
      await call("METER.HIT", "kpi", "AT", AT);
      await onReplica(async (replica) => {
        assert.deepEqual(await replica("METER.KPI", "kpi", "DAY", 20220809), day([["day", 1], ["14", 1]]));
        await rejects(replica("METER.HIT", "kpi"), /^READONLY /);
      });
    });

    test("MS answers milliseconds that keep their promise", async () => {
      assertFive(await call("CELL.THROTTLE", "user", 0, 1, 60, "MS"), 0, 1, 0, -1);
      let refused = [0];
      while (refused[0] === 0) refused = await call("CELL.THROTTLE", "fast", 0, 1, 0.25, 1, "MS");
      assert.ok(0 < refused[3] && refused[3] <= 250, `${refused}`);
      await sleep(refused[3] + 1); // a timer of Node.js may be up to 1 ms early
      assert.deepEqual((await call("CELL.THROTTLE", "fast", 0, 1, 0.25, "MS")).slice(0, 4), [0, 1, 0, -1]);
    });

    test("several limits are taken together or not at all", async () => {
      const ask = () => call("CELL.MTHROTTLE", "user", 2, 1, 3600, 1, "address", 0, 1, 3600, 1);
      let [user, address] = await ask();
      assertFive(user, 0, 3, 2, -1, 3600);
      assertFive(address, 0, 1, 0, -1, 3600);
      [user, address] = await ask();
      assertFive(user, 0, 3, 2, -1, 3600);
      assertFive(address, 1, 1, 0, 3600, 3600);
      const look = await call("CELL.MTHROTTLE_RO", "user", 2, 1, 3600, 3, "other", 0, 1, 60, 1, "MS");
      assert.deepEqual(look.map((answer) => answer.slice(0, 3)), [[1, 3, 2], [0, 1, 1]]);
      assert.ok(look[0][3] > 3600, `${look}`);
      assert.equal(await call("EXISTS", "other"), 0);
    });

    test("failed logins block until the key is deleted", async () => {
      const login = () => call("CELL.WINDOW", "logins:7", 3, 3600, "BLOCK", 7200);
      for (const remaining of [2, 1, 0]) assertFive(await login(), 0, 3, remaining, -1, 3600);
      for (let time = 0; time < 2; time++) assertFive(await login(), 1, 3, 0, 7200, 7200);
      await call("DEL", "logins:7");
      assertFive(await login(), 0, 3, 2, -1, 3600);
    });

    test("a worker waits for the next cell of a paced queue", async () => {
      assert.deepEqual(await call("CELL.PULL", "queue", "pace", 0, 1, 3600, "TIMEOUT", 0.05), [[], 0]);
      const pulled = call("CELL.PULL", "queue", "pace", 0, 1, 3600, "TIMEOUT", 30, "INTO", "busy");
      await on(PORT, (push) => push("LPUSH", "queue", "first", "second"));
      const [cells, nextDue] = await pulled;
      assert.deepEqual(cells, ["first"]);
      assert.ok(3500 < nextDue && nextDue <= 3600, `${nextDue}`);
      assert.deepEqual(await call("LRANGE", "busy", 0, -1), ["first"]);
      assert.deepEqual(await call("LRANGE", "queue", 0, -1), ["second"]);
    });

    test("a day is a map with RESP3, a span a list of pairs", async () => {
      assert.deepEqual(await call("METER.HIT", "kpi", "AT", AT), [1, 1, 1]);
      assert.deepEqual(await call("METER.HIT", "kpi", "BY", 20, "AT", AT + 3_600_000), [21, 20, 20]);
      assert.deepEqual(await call("METER.KPI", "kpi", "DAY", "2022-08-09"), day([["day", 21], ["14", 1], ["15", 20]]));
      assert.deepEqual(await call("METER.KPI", "kpi", "DAY", "2022-08-10"), day([]));
      const span = ["METER.KPI", "kpi", "FROM", 20220801, "TO", 20220831, "BY"];
      assert.deepEqual(await call(...span, "HOUR"), [["2022080914", 1], ["2022080915", 20]]);
      assert.deepEqual(await call(...span, "TOTAL"), [["total", 21]]);
    });

    test("keys are any bytes", async () => {
      for (const [name, numbers] of Object.entries(THREE_AN_HOUR)) {
        assert.equal((await call(name, BINARY, ...numbers))[2], 2);
        assert.equal(await call("DEL", BINARY), 1);
      }
      await call("METER.HIT", BINARY, "AT", AT);
      assert.equal(await call("HGET", Buffer.concat([BINARY, Buffer.from(":day:20220809")]), "day"), "1");
      assert.deepEqual(await call("METER.KPI", BINARY, "DAY", 20220809), day([["day", 1], ["14", 1]]));
    });

    test("errors are errors of the library with the text of the server", async () => {
      await call("LPUSH", "list", "x");
      for (const [name, numbers] of Object.entries(THREE_AN_HOUR)) {
        await fails(/^WRONGTYPE Operation against a key holding the wrong kind of value$/, name, "list", ...numbers);
      }
      await fails(/^ERR count must be a 64-bit integer, at least 1, not '0'$/, "CELL.THROTTLE", "u", 1, 0, 60);
      await fails(/^ERR unknown option 'BLOCK': the options are \[quantity\] \[PARTIAL\] \[MS\]$/, "CELL.LOG", "u", 1, 60, "BLOCK", 60);
      await fails(/^ERR AT 1660054277 looks like seconds: /, "METER.HIT", "kpi", "AT", 1660054277);
      await fails(/^ERR wrong number of arguments for 'cell.slide' command$/, "cell.slide", "u");
    });

    test("a pipeline of a thousand", async () => {
      const throttle = Array(1000).fill(["CELL.THROTTLE", "user", 599, 1, 3600]);
      const answers = await library.pipeline(client, throttle);
      assert.deepEqual(answers.map((answer) => answer[0]), [...Array(600).fill(0), ...Array(400).fill(1)]);
      const hits = await library.pipeline(client, Array(1000).fill(["METER.HIT", "kpi", "AT", AT]));
      assert.deepEqual(hits, Array.from({ length: 1000 }, (_, before) => [before + 1, before + 1, 1]));
    });

    test("an error in a pipeline leaves the other calls alone", async () => {
      const hit = ["METER.HIT", "kpi", "AT", AT];
      const [first, error, last] = await library.pipeline(client, [hit, ["METER.HIT", "kpi", "BY", "many"], hit]);
      assert.deepEqual([first, last], [[1, 1, 1], [2, 2, 1]]);
      assert.equal(error.message, "ERR BY must be a 64-bit integer, not 'many'");
    });

    test("a transaction answers every call", async () => {
      const [hit, passed, refused, kpi] = await library.transaction(client, [
        ["METER.HIT", "kpi", "AT", AT],
        ["CELL.THROTTLE", "user", 0, 1, 3600],
        ["CELL.THROTTLE", "user", 0, 1, 3600],
        ["METER.KPI", "kpi", "DAY", 20220809],
      ]);
      assert.deepEqual([hit, passed[0], refused[0]], [[1, 1, 1], 0, 1]);
      assert.deepEqual(kpi, day([["day", 1], ["14", 1]]));
    });

    test("in a Lua script", async () => {
      const script = `
        local answer = redis.call('CELL.THROTTLE', KEYS[1], 1, 1, 3600)
        if answer[1] == 0 then redis.call('METER.HIT', KEYS[2], 'AT', ARGV[1]) end
        return answer`;
      for (const expected of [[0, 2, 1], [0, 2, 0], [1, 2, 0]]) {
        assert.deepEqual((await call("EVAL", script, 2, BINARY, "kpi", AT)).slice(0, 3), expected);
      }
      assert.deepEqual(await call("METER.HIT", "kpi", "AT", AT, "BY", 0), [2, 2, 0]);
    });

    test("in a function", async (t) => {
      if (!is7OrLater) return t.skip("no functions before Redis 7");
      const library = `#!lua name=limits
        redis.register_function('take', function(keys)
          return redis.call('CELL.LOG', keys[1], 1, 3600) end)
        redis.register_function{function_name='look', flags={'no-writes'}, callback=function(keys)
          return redis.call('CELL.LOG_RO', keys[1], 1, 3600) end}`;
      await call("FUNCTION", "LOAD", "REPLACE", library);
      assert.equal((await call("FCALL_RO", "look", 1, "user"))[0], 0);
      assert.equal((await call("FCALL", "take", 1, "user"))[0], 0);
      assert.equal((await call("FCALL", "take", 1, "user"))[0], 1);
      await onReplica(async (replica) => assert.equal((await replica("FCALL_RO", "look", 1, "user"))[0], 1));
      await call("FUNCTION", "DELETE", "limits");
    });

    test("concurrent calls take no more than there is", async () => {
      const answers = await Promise.all(Array.from({ length: 100 }, () => call("CELL.WINDOW", "user", 10, 3600)));
      assert.equal(answers.filter((answer) => answer[0] === 0).length, 10);
    });
  });
}

/** Calls each command with many keys of both nodes of a cluster, by `call(key, words)`. */
export async function callAllOverACluster(call) {
  for (let number = 0; number < 50; number++) {
    for (const [name, numbers] of Object.entries(THREE_AN_HOUR)) {
      const key = `${name}:${number}`;
      assert.equal((await call(key, [name, key, ...numbers]))[2], 2);
    }
    const [kpi, a, b] = [`kpi:${number}`, `{user:${number}}:a`, `{user:${number}}:b`];
    assert.deepEqual(await call(kpi, ["METER.HIT", kpi, "AT", AT]), [1, 1, 1]);
    assert.deepEqual(await call(kpi, ["METER.KPI", kpi, "FROM", 20220801, "TO", 20220831]), [["20220809", 1]]);
    const limits = [a, 2, 1, 3600, 1, b, 2, 1, 3600, 1];
    assert.deepEqual((await call(a, ["CELL.MTHROTTLE", ...limits])).map((answer) => answer[2]), [2, 2]);
    assert.deepEqual((await call(a, ["CELL.MTHROTTLE_RO", ...limits])).map((answer) => answer[2]), [1, 1]);
  }
}
