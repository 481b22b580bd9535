"""The commands through redis-py, as a Python program uses them.

METER_PORT is a server with the module, METER_REPLICA_PORT a replica of it that has the module too, METER_CLUSTER_PORT a
node of a cluster: tests/clients.rs starts them.
"""

import asyncio
import os
import threading
import time
import unittest

import redis
import redis.asyncio

PORT = int(os.environ["METER_PORT"])
REPLICA_PORT = int(os.environ["METER_REPLICA_PORT"])
CLUSTER_PORT = int(os.environ["METER_CLUSTER_PORT"])

AT = 1660054277326  # 2022-08-09 14:11 UTC
BINARY = bytes(range(256)) + b"\r\n$3\r\n"

# Three cells at once, and one more every hour; each followed by its key.
THREE_AN_HOUR = {
    "CELL.THROTTLE": (2, 1, 3600),
    "CL.THROTTLE": (2, 1, 3600),
    "CELL.WINDOW": (3, 3600),
    "CELL.LOG": (3, 3600),
    # Its windows begin at multiples of the period: this one began in 2001 and ends in 2033.
    "CELL.SLIDE": (3, 1_000_000_000),
}
HAVE_TWINS = [name for name in THREE_AN_HOUR if name != "CL.THROTTLE"]


class Limiters:
    """The tests; the classes below run them with each protocol."""

    protocol: int

    def setUp(self):
        self.redis = self.connect()
        self.call = self.redis.execute_command
        self.redis.flushall()
        self.is_7_or_later = int(self.redis.info("server")["redis_version"].split(".")[0]) >= 7

    def connect(self, port=PORT, **options):
        client = redis.Redis(port=port, protocol=self.protocol, **options)
        self.addCleanup(client.close)
        return client

    def replica(self):
        self.assertEqual(self.redis.wait(1, 20_000), 1, "the replica follows")
        return self.connect(REPLICA_PORT)

    def day(self, pairs):
        """How METER.KPI answers a day. Before Redis 7, a module could not answer a map."""
        if self.protocol == 3 and self.is_7_or_later:
            return pairs
        return [word for pair in pairs.items() for word in pair]

    def assert_five(self, answer, limited, limit, remaining, retry_after, reset_after):
        """The five integers; the times may be a minute less than expected, for a test that was slow."""
        self.assertEqual([type(number) for number in answer], [int] * 5)
        self.assertEqual(answer[:3], [limited, limit, remaining])
        for actual, expected in zip(answer[3:], [retry_after, reset_after]):
            self.assertTrue(expected - min(60, max(expected, 0)) <= actual <= expected, f"{answer}: {expected}")

    def assert_fails(self, text, *words, kind=redis.ResponseError):
        with self.assertRaises(kind) as caught:
            self.call(*words)
        self.assertEqual(str(caught.exception), text)

    def test_a_limiter_answers_five_integers(self):
        for name in ["CELL.THROTTLE", "CL.THROTTLE"]:
            self.assert_five(self.call(name, name, 2, 1, 3600), 0, 3, 2, -1, 3600)
            self.assert_five(self.call(name, name, 2, 1, 3600, 2), 0, 3, 0, -1, 10800)
            self.assert_five(self.call(name, name, 2, 1, 3600), 1, 3, 0, 3600, 10800)
            self.assert_five(self.call(name, name, 2, 1, 3600, 4), 1, 3, 0, -1, 10800)

    def test_every_limiter_admits_three_and_refuses_the_fourth(self):
        for name, numbers in THREE_AN_HOUR.items():
            with self.subTest(name):
                answers = [self.call(name, name, *numbers) for _ in range(4)]
                self.assertEqual([answer[:3] for answer in answers], [[0, 3, 2], [0, 3, 1], [0, 3, 0], [1, 3, 0]])
                self.assertEqual([answer[3] == -1 for answer in answers], [True, True, True, False])
                self.assertLessEqual(answers[3][3], answers[3][4])

    def test_cl_throttle_and_cell_throttle_share_their_state(self):
        self.assertEqual(self.call("CL.THROTTLE", "user", 2, 1, 3600)[2], 2)
        self.assertEqual(self.call("CELL.THROTTLE", "user", 2, 1, 3600)[2], 1)
        self.assertEqual(self.call("CL.THROTTLE", "user", 2, 1, 3600)[2], 0)

    def test_ms_answers_milliseconds_that_keep_their_promise(self):
        answer = self.call("CELL.THROTTLE", "user", 0, 1, 3600, "MS")
        self.assertEqual(answer[:4], [0, 1, 0, -1])
        self.assertTrue(3_540_000 < answer[4] <= 3_600_000, answer)

        refused = [0]
        while refused[0] == 0:
            refused = self.call("CELL.THROTTLE", "fast", 0, 1, "0.25", "MS")
        self.assertTrue(0 < refused[3] <= 250, refused)
        time.sleep(refused[3] / 1000)
        self.assertEqual(self.call("CELL.THROTTLE", "fast", 0, 1, 0.25, 1, "MS")[:4], [0, 1, 0, -1])

    def test_a_look_takes_nothing_and_what_is_given_back_is_there_again(self):
        for name, numbers in THREE_AN_HOUR.items():
            with self.subTest(name):
                self.assertEqual(self.call(name, name, *numbers, 0), [0, 3, 3, -1, 0])
                self.assertEqual(self.redis.exists(name), 0)
                self.assertEqual(self.call(name, name, *numbers, 2)[2], 1)
                self.assertEqual(self.call(name, name, *numbers, 0)[2], 1)
                self.assertEqual(self.call(name, name, *numbers, -1)[2], 2)
                self.assertEqual(self.call(name, name, *numbers, -9), [0, 3, 3, -1, 0])
                self.assertEqual(self.redis.exists(name), 0)

    def test_a_read_only_twin_answers_what_the_call_would(self):
        for name in HAVE_TWINS:
            numbers = THREE_AN_HOUR[name]
            with self.subTest(name):
                for remaining in [2, 1, 0]:
                    for _ in range(2):
                        self.assertEqual(self.call(name + "_RO", name, *numbers)[:4], [0, 3, remaining, -1])
                    self.assertEqual(self.call(name, name, *numbers)[:4], [0, 3, remaining, -1])
                self.assertEqual(self.call(name + "_RO", name, *numbers)[:3], [1, 3, 0])
        limits = ["CELL.THROTTLE", 2, 1, 3600, 1, "other", 0, 1, 60, 1]
        self.assertEqual([answer[:3] for answer in self.call("CELL.MTHROTTLE_RO", *limits)], [[1, 3, 0], [0, 1, 1]])
        self.assertEqual(self.redis.exists("other"), 0)

    def test_a_replica_answers_the_twins_and_meter_kpi_and_refuses_the_writers(self):
        for name in HAVE_TWINS:
            self.call(name, name, *THREE_AN_HOUR[name])
        self.call("METER.HIT", "kpi", "AT", AT)
        replica = self.replica().execute_command
        for name in HAVE_TWINS:
            with self.subTest(name):
                self.assertEqual(replica(name + "_RO", name, *THREE_AN_HOUR[name])[:3], [0, 3, 1])
                with self.assertRaises(redis.ReadOnlyError):
                    replica(name, name, *THREE_AN_HOUR[name])
        limits = ["CELL.THROTTLE", 2, 1, 3600, 3, "other", 0, 1, 60, 1]
        self.assertEqual([answer[0] for answer in replica("CELL.MTHROTTLE_RO", *limits)], [1, 0])
        self.assertEqual(replica("METER.KPI", "kpi", "DAY", "2022-08-09"), self.day({b"day": 1, b"14": 1}))
        for words in [("CELL.MTHROTTLE", *limits), ("CL.THROTTLE", "u", 2, 1, 60), ("METER.HIT", "kpi")]:
            with self.assertRaises(redis.ReadOnlyError):
                replica(*words)

    def test_several_limits_are_taken_together_or_not_at_all(self):
        def call(user=1):
            return self.call("CELL.MTHROTTLE", "user", 2, 1, 3600, user, "address", 0, 1, 3600, 1)

        first = call()
        self.assert_five(first[0], 0, 3, 2, -1, 3600)
        self.assert_five(first[1], 0, 1, 0, -1, 3600)
        second = call()
        self.assert_five(second[0], 0, 3, 2, -1, 3600)
        self.assert_five(second[1], 1, 1, 0, 3600, 3600)
        self.redis.delete("address")
        self.assertEqual([answer[0] for answer in call(user=3)], [1, 0])
        self.assertEqual(self.redis.exists("address"), 0)
        self.assertEqual([answer[0] for answer in call(user=2)], [0, 0])
        in_ms = self.call("CELL.MTHROTTLE", "user", 2, 1, 3600, 1, "MS")
        self.assertTrue(3_540_000 < in_ms[0][3] <= 3_600_000, in_ms)
        self.assert_fails(
            "key 'user' is named twice: name it once, with the sum of its quantities",
            "CELL.MTHROTTLE", "user", 2, 1, 60, 1, "user", 2, 1, 60, 1,
        )  # fmt: skip

    def test_failed_logins_block_until_the_key_is_deleted(self):
        def login():
            return self.call("CELL.WINDOW", "logins:7", 3, 3600, "BLOCK", 7200)

        for remaining in [2, 1, 0]:
            self.assert_five(login(), 0, 3, remaining, -1, 3600)
        for _ in range(2):
            self.assert_five(login(), 1, 3, 0, 7200, 7200)
        self.assertEqual(self.redis.get("logins:7"), b"4")
        self.redis.delete("logins:7")
        self.assert_five(login(), 0, 3, 2, -1, 3600)

    def test_a_window_goes_on_with_what_incr_and_expire_left(self):
        self.redis.incr("old", 2)
        self.redis.expire("old", 600)
        self.assert_five(self.call("CELL.WINDOW", "old", 3, 3600), 0, 3, 0, -1, 600)
        self.assertEqual(self.redis.get("old"), b"3")

    def test_a_log_holds_one_member_for_each_cell(self):
        self.call("CELL.LOG", "log", 1000, 3600, 400)
        self.assertEqual(self.redis.zcard("log"), 400)
        self.assertEqual(self.call("CELL.LOG", "log", 1000, 3600, 700)[:3], [1, 1000, 600])
        self.assertEqual(self.call("CELL.LOG", "log", 1000, 3600, -100)[:3], [0, 1000, 700])
        self.assertEqual(self.redis.zcard("log"), 300)

    def test_a_sliding_counter_is_a_hash(self):
        self.call("CELL.SLIDE", "slide", 100, 1_000_000_000, 30)
        state = self.redis.hgetall("slide")
        self.assertEqual(sorted(state), [b"current", b"period", b"previous", b"start"])
        self.assertEqual(state[b"current"], b"30")

    def test_a_worker_waits_for_the_next_cell_of_a_paced_queue(self):
        self.assertEqual(self.call("CELL.PULL", "queue", "pace", 0, 1, 3600, "TIMEOUT", 0.05), [[], 0])
        pusher = threading.Timer(0.2, self.connect().lpush, ["queue", "first", "second"])
        pusher.start()
        cells, next_due = self.call("CELL.PULL", "queue", "pace", 0, 1, 3600, "TIMEOUT", 30, "INTO", "busy")
        pusher.join()
        self.assertEqual(cells, [b"first"])
        self.assertTrue(3500 < next_due <= 3600, next_due)
        self.assertEqual(self.redis.lrange("busy", 0, -1), [b"first"])
        self.assertEqual(self.redis.lrange("queue", 0, -1), [b"second"])

    def test_a_day_is_a_dict_with_resp3_and_a_list_with_resp2(self):
        self.assertEqual(self.call("METER.HIT", "kpi", "AT", AT), [1, 1, 1])
        self.assertEqual(self.call("METER.HIT", "kpi", "BY", 20, "AT", AT + 3_600_000), [21, 20, 20])
        day = self.call("METER.KPI", "kpi", "DAY", "20220809")
        self.assertEqual(day, self.day({b"day": 21, b"14": 1, b"15": 20}))
        self.assertEqual([word for word in day if isinstance(word, bytes)], [b"day", b"14", b"15"])
        self.assertEqual(self.call("METER.KPI", "kpi", "DAY", "20220810"), self.day({}))

        texts = self.connect(decode_responses=True)
        day = texts.execute_command("METER.KPI", "kpi", "DAY", "20220809")
        self.assertEqual(day, self.day({"day": 21, "14": 1, "15": 20}))

    def test_a_span_is_a_list_of_pairs(self):
        for day in range(3):
            self.call("METER.HIT", "kpi", "AT", AT + day * 86_400_000, "BY", day + 1)
        span = ("METER.KPI", "kpi", "FROM", "2022-08-01", "TO", "20220831")
        self.assertEqual(self.call(*span), [[b"20220809", 1], [b"20220810", 2], [b"20220811", 3]])
        self.assertEqual(self.call(*span, "BY", "HOUR")[2], [b"2022081114", 3])
        self.assertEqual(self.call(*span, "BY", "MONTH"), [[b"202208", 6]])
        self.assertEqual(self.call(*span, "BY", "TOTAL"), [[b"total", 6]])

    def test_keys_are_any_bytes(self):
        for key in [BINARY, b"", "schlüssel:☃".encode(), b"a b"]:
            with self.subTest(key):
                self.redis.flushall()
                for name, numbers in THREE_AN_HOUR.items():
                    self.assertEqual(self.call(name, key, *numbers)[2], 2)
                    self.redis.delete(key)
                self.call("CELL.MTHROTTLE", key, 2, 1, 3600, 1, key + b"2", 2, 1, 3600, 1)
                self.assertEqual(set(self.redis.keys()), {key, key + b"2"})
                self.redis.delete(key)
                self.call("METER.HIT", key, "AT", AT)
                self.assertEqual(self.redis.hget(key + b":day:20220809", "day"), b"1")
                self.assertEqual(len(self.call("METER.KPI", key, "FROM", "20220809", "TO", "20220809")), 1)

    def test_errors_are_response_errors_with_the_text_of_the_server(self):
        # redis-py leaves out the code ERR.
        self.redis.lpush("list", "x")
        wrong = "WRONGTYPE Operation against a key holding the wrong kind of value"
        for name, numbers in THREE_AN_HOUR.items():
            self.assert_fails(wrong, name, "list", *numbers)
        self.assert_fails(wrong, "METER.HIT", "list")
        self.assert_fails("count must be a 64-bit integer, at least 1, not '0'", "CELL.THROTTLE", "u", 1, 0, 60)
        self.assert_fails("quantity must be a 64-bit integer, not '1.5'", "CELL.LOG", "u", 1, 60, 1.5)
        self.assert_fails("unknown option 'BLOCK': the options are [quantity] [PARTIAL] [MS]", "CELL.LOG", "u", 1, 60, "BLOCK", 60)
        self.assert_fails("AT 1660054277 looks like seconds: give milliseconds since the epoch",
                          "METER.HIT", "kpi", "AT", AT // 1000)  # fmt: skip
        self.assert_fails("wrong number of arguments for 'cell.window' command", "cell.window", "u", 1)
        self.assertEqual(self.redis.keys(), [b"list"])

    def test_a_pipeline_of_a_thousand(self):
        pipeline = self.redis.pipeline(transaction=False)
        for _ in range(1000):
            pipeline.execute_command("CELL.THROTTLE", "user", 599, 1, 3600)
        answers = pipeline.execute()
        self.assertEqual([answer[0] for answer in answers], [0] * 600 + [1] * 400)

        for number in range(1000):
            pipeline.execute_command("METER.HIT", "kpi", "AT", AT + number)
        self.assertEqual(pipeline.execute(), [[number, number, 1] for number in range(1, 1001)])

    def test_an_error_in_a_pipeline_leaves_the_other_calls_alone(self):
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.execute_command("METER.HIT", "kpi", "AT", AT)
        pipeline.execute_command("METER.HIT", "kpi", "BY", "many")
        pipeline.execute_command("METER.HIT", "kpi", "AT", AT)
        first, error, last = pipeline.execute(raise_on_error=False)
        self.assertEqual((first, last), ([1, 1, 1], [2, 2, 1]))
        self.assertIsInstance(error, redis.ResponseError)
        self.assertEqual(str(error), "BY must be a 64-bit integer, not 'many'")

    def test_a_transaction_answers_every_call(self):
        transaction = self.redis.pipeline(transaction=True)
        transaction.execute_command("METER.HIT", "kpi", "AT", AT)
        transaction.execute_command("CELL.THROTTLE", "user", 0, 1, 3600)
        transaction.execute_command("CELL.THROTTLE", "user", 0, 1, 3600)
        transaction.execute_command("METER.KPI", "kpi", "DAY", "20220809")
        transaction.set("plain", 1)
        hit, passed, refused, day, plain = transaction.execute()
        self.assertEqual(hit, [1, 1, 1])
        self.assertEqual((passed[0], refused[0], plain), (0, 1, True))
        self.assertEqual(day, self.day({b"day": 1, b"14": 1}))

    def test_a_transaction_that_a_hit_invalidates_is_tried_again(self):
        attempts = []

        def double(pipeline):
            """Hits as often again as was counted, while another client hits once."""
            day = pipeline.execute_command("METER.KPI", "kpi", "FROM", "20220809", "TO", "20220809")
            if not attempts:
                self.connect().execute_command("METER.HIT", "kpi", "AT", AT)
            attempts.append(day[0][1])
            pipeline.multi()
            pipeline.execute_command("METER.HIT", "kpi", "AT", AT, "BY", day[0][1])

        self.call("METER.HIT", "kpi", "AT", AT, "BY", 5)
        self.assertEqual(self.redis.transaction(double, "kpi"), [[12, 12, 6]])
        self.assertEqual(attempts, [5, 6])

    def test_looks_and_refusals_invalidate_no_transaction(self):
        self.call("CELL.THROTTLE", "user", 0, 1, 3600)
        self.call("METER.HIT", "kpi", "AT", AT)
        with self.redis.pipeline() as pipeline:
            pipeline.watch("user", "kpi")
            self.call("CELL.THROTTLE", "user", 0, 1, 3600)
            self.call("CELL.THROTTLE", "user", 0, 1, 3600, 0)
            self.call("METER.HIT", "kpi", "AT", AT, "BY", 0)
            with self.assertRaises(redis.ResponseError):
                self.call("METER.HIT", "kpi", "AT", AT, "BY", -2)
            pipeline.multi()
            pipeline.set("done", 1)
            self.assertEqual(pipeline.execute(), [True])

    def test_in_a_lua_script(self):
        script = self.redis.register_script(
            "local answer = redis.call('CELL.THROTTLE', KEYS[1], ARGV[1], 1, 3600) "
            "if answer[1] == 0 then redis.call('METER.HIT', KEYS[2], 'AT', ARGV[2]) end "
            "return answer"
        )
        answers = [script(keys=[BINARY, "kpi"], args=[1, AT]) for _ in range(3)]
        self.assertEqual([answer[:3] for answer in answers], [[0, 2, 1], [0, 2, 0], [1, 2, 0]])
        self.assertEqual(self.call("METER.HIT", "kpi", "AT", AT, "BY", 0), [2, 2, 0])
        day = "return redis.call('METER.KPI', KEYS[1], 'DAY', '20220809')"
        self.assertEqual(self.redis.eval(day, 1, "kpi"), [b"day", 2, b"14", 2])
        with self.assertRaisesRegex(redis.ResponseError, "BY must be a 64-bit integer, not 'x'"):
            self.redis.eval("return redis.call('METER.HIT', KEYS[1], 'BY', 'x')", 1, "kpi")

    def test_in_a_function(self):
        if not self.is_7_or_later:
            self.skipTest("no functions before Redis 7")
        self.redis.function_load(
            "#!lua name=limits\n"
            "redis.register_function('take', function(keys) "
            "return redis.call('CELL.THROTTLE', keys[1], 0, 1, 3600) end)\n"
            "redis.register_function{function_name='look', flags={'no-writes'}, callback=function(keys) "
            "return redis.call('CELL.THROTTLE_RO', keys[1], 0, 1, 3600) end}",
            replace=True,
        )
        self.addCleanup(self.redis.function_delete, "limits")
        self.assertEqual(self.redis.fcall_ro("look", 1, "user")[0], 0)
        self.assertEqual([self.redis.fcall("take", 1, "user")[0] for _ in range(2)], [0, 1])
        replica = self.replica()
        self.assertEqual(replica.fcall_ro("look", 1, "user")[0], 1)
        look = "return redis.call('CELL.THROTTLE_RO', KEYS[1], 0, 1, 3600)"
        self.assertEqual(replica.eval_ro(look, 1, "user")[0], 1)

    def test_concurrent_calls_of_asyncio_take_no_more_than_there_is(self):
        async def calls():
            async with redis.asyncio.Redis(port=PORT, protocol=self.protocol) as client:
                call = client.execute_command
                return await asyncio.gather(*(call("CELL.LOG", "user", 10, 3600) for _ in range(100)))

        self.assertEqual(sorted(answer[0] for answer in asyncio.run(calls())), [0] * 10 + [1] * 90)

    def test_a_cluster_client_finds_the_node_of_every_key(self):
        with redis.RedisCluster("127.0.0.1", CLUSTER_PORT, protocol=self.protocol) as cluster:
            cluster.flushall(target_nodes=redis.RedisCluster.PRIMARIES)
            call = cluster.execute_command
            for number in range(50):
                for name, numbers in THREE_AN_HOUR.items():
                    self.assertEqual(call(name, f"{name}:{number}", *numbers)[2], 2)
                for name in HAVE_TWINS:
                    self.assertEqual(call(name + "_RO", f"{name}:{number}", *THREE_AN_HOUR[name])[2], 1)
                self.assertEqual(call("METER.HIT", f"kpi:{number}", "AT", AT), [1, 1, 1])
                self.assertEqual(len(call("METER.KPI", f"kpi:{number}", "FROM", "20220801", "TO", "20220831")), 1)
                limits = [f"{{user:{number}}}:a", 2, 1, 3600, 1, f"{{user:{number}}}:b", 2, 1, 3600, 1]
                self.assertEqual([answer[2] for answer in call("CELL.MTHROTTLE", *limits)], [2, 2])
                self.assertEqual([answer[2] for answer in call("CELL.MTHROTTLE_RO", *limits, "MS")], [1, 1])
            sizes = [cluster.dbsize(target_nodes=node) for node in cluster.get_primaries()]
            self.assertGreater(min(sizes), 50)
            # one for each limiter but the two of MTHROTTLE, and the meter's index and day
            self.assertEqual(sum(sizes), 50 * (len(THREE_AN_HOUR) + 2 + 2))
            with self.assertRaisesRegex(redis.exceptions.RedisClusterException, "same key slot"):
                call("CELL.MTHROTTLE", "user:1", 2, 1, 60, 1, "user:2", 2, 1, 60, 1)


class Resp2(Limiters, unittest.TestCase):
    protocol = 2


class Resp3(Limiters, unittest.TestCase):
    protocol = 3


if __name__ == "__main__":
    unittest.main()
