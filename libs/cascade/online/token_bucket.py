"""A token bucket in Redis, so that all replicas of a gateway share it.

Redis's own clock fills it: replicas whose clocks differ take from one and the same bucket.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from cascade.online import keys
from cascade.online.pipelined import PipelinedRedis

# KEYS: the bucket. ARGV: tokens a second, tokens at most, tokens wanted, milliseconds to live.
_TAKE = """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local held = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(held[1]) or burst, tonumber(held[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local granted = math.min(tonumber(ARGV[3]), math.floor(tokens))
tokens = tokens - granted
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {granted, granted > 0 and 0 or math.ceil((1 - tokens) / rate * 1000)}
"""


class Grant(NamedTuple):
    """What a bucket gave. wait_s: seconds until there is a token, where it gave none."""

    tokens: int
    wait_s: float


class TokenBuckets:
    """Buckets by name, over one connection."""

    def __init__(self, redis: PipelinedRedis) -> None:
        self._redis = redis

    async def take(self, name: str, rate: float, burst: int, wanted: int) -> Grant:
        """At most `wanted` tokens of a bucket that gains `rate` a second up to `burst`. Raises OnlineStoreDown."""
        full_after_ms = math.ceil(1000 * burst / rate) + 1000  # a bucket that is full again may as well not be there
        answer = await self._redis.execute("EVAL", _TAKE, 1, keys.rate(name), f"{rate!r}", burst, wanted, full_after_ms)
        return Grant(int(answer[0]), int(answer[1]) / 1000)
