"""CL.THROTTLE through rate-limit-async, a limiter for coroutines that was written for redis-cell.

METER_PORT is a server with `cl-throttle yes`: tests/clients.rs starts it.
"""

import os
import unittest

import redis
from ratelimit.base.constants import LimitConfig, RedisConfig
from ratelimit.decorators import async_rate_limit
from ratelimit.limits.redis_limit import RedisRateLimit

RedisConfig.port = int(os.environ["METER_PORT"])


class RateLimitAsync(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.redis = redis.Redis(port=RedisConfig.port)
        self.addCleanup(self.redis.close)
        self.redis.flushall()

    async def asyncTearDown(self):
        RedisConfig.conn.close()
        await RedisConfig.conn.wait_closed()
        RedisConfig.conn = None

    async def test_what_is_beyond_the_limit_is_discarded(self):
        LimitConfig.rate_limit_config = {"mail": {"total_quota": 2, "limit_quota": 1, "limit_second": 3600}}

        @async_rate_limit("mail", default_return="later")
        async def mail(to):
            return f"mailed to {to}"

        self.assertEqual([await mail("a") for _ in range(5)], ["mailed to a"] * 3 + ["later"] * 2)
        self.assertGreater(self.redis.ttl("default:mail"), 10_000)

    async def test_a_retry_passes_when_the_limiter_has_refilled(self):
        LimitConfig.total_quota = 0
        LimitConfig.rate_limit_config = {
            "call": {
                "limit_quota": 2,
                "handle": "retry",
                "handle_params": {"retry_count": 10, "retry_wait": 0.3},
            }
        }

        @async_rate_limit("call", default_return="lost")
        async def call():
            return "called"

        self.assertEqual([await call() for _ in range(3)], ["called"] * 3)

    async def test_a_limiter_asks_for_several_cells(self):
        self.assertEqual(await self.attempt(once_quota=3), True)
        self.assertEqual(await self.attempt(once_quota=3), False)
        self.assertEqual(await self.attempt(once_quota=2), True)

    async def attempt(self, once_quota):
        """Whether so many of five cells could be had. An error of the server counts as yes, and is logged."""
        config = {"total_quota": 4, "limit_quota": 1, "limit_second": 3600, "once_quota": once_quota}
        with self.assertNoLogs("ratelimit"):
            passed, _ = await RedisRateLimit().attempt_get_token("batch", config)
        return passed


if __name__ == "__main__":
    unittest.main()
