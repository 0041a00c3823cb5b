"""Recent items of users who did something before the shop went live: written by the build, for retrieval to read."""

from __future__ import annotations

import pyarrow as pa
from redis import Redis

from cascade.online import keys
from cascade.online.connection import store_errors

_AT_ONCE = 2_000

# KEYS: recent list. ARGV: seconds to live, its entries, newest first. One that is there is the visitor's own.
_FILL = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('RPUSH', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
"""


def fill_recent(client: Redis, users: pa.Table, ttl_s: int = keys.SEEN_TTL_S) -> int:
    """Write the lists of users who have none, from a table of `recent_interactions`; returns how many were written.

    Raises OnlineStoreDown.
    """
    written = 0
    with store_errors("writing recent items"):
        fill = client.register_script(_FILL)
        for batch in users.to_batches(_AT_ONCE):
            with client.pipeline(transaction=False) as step:
                for user_id, entries in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    fill(keys=[keys.recent(user_id)], args=[ttl_s, *entries], client=step)
                written += sum(step.execute())
    return written
