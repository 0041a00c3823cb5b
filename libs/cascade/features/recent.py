"""What users did last as of one moment: what the online store starts from, before live traffic adds to it."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from cascade.features.source import InteractionSource, QueryLimits, session
from cascade.features.spec import RECENT_LENGTH

SCHEMA = pa.schema([("user_id", pa.string()), ("entries", pa.list_(pa.string()))])
EVENTS_AT_ONCE = 1_000_000
_DAY_S = 86_400


def recent_interactions(
    source: InteractionSource,
    at: int,
    days: int,
    *,
    length: int = RECENT_LENGTH,
    limits: QueryLimits | None = None,
    events_at_once: int = EVENTS_AT_ONCE,
) -> Iterator[pa.Table]:
    """Each user's latest interactions in [at - days, at): user_id, entries `timestamp|event_type|item_id`.

    Newest first, at most `length`; events of one second in a fixed order. at: UTC seconds.
    The users who have any, in tables of as many as have about `events_at_once` events, each ordered by user_id: sorted
    all at once, seven million events take more memory than a build gives a query.
    """
    since = at - days * _DAY_S
    in_view = [day for day in source.days() if _start(day) + _DAY_S > since and _start(day) < at]
    files = [str(file) for file in source.interaction_files(in_view)] if in_view else []
    if not files or days < 1:
        return
    parts = max(1, math.ceil(sum(pq.read_metadata(file).num_rows for file in files) / events_at_once))
    with session(limits) as connection:
        for part in range(parts):
            given = {"files": files, "since": since, "until": at, "length": length, "parts": parts, "part": part}
            found = connection.execute(_LATEST, given).to_arrow_table().cast(SCHEMA)
            if len(found):
                yield found


def _start(day: dt.date) -> int:
    return int(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp())


_LATEST = """
    WITH ranked AS (
        SELECT user_id, item_id, timestamp, event_type,
               row_number() OVER (PARTITION BY user_id ORDER BY timestamp DESC, item_id DESC, event_type DESC) AS place
        FROM interactions_in($files)
        WHERE timestamp >= $since AND timestamp < $until AND user_id IS NOT NULL AND hash(user_id) % $parts = $part
    )
    SELECT user_id, list(concat_ws('|', timestamp, event_type, item_id) ORDER BY place) AS entries
    FROM ranked WHERE place <= $length GROUP BY user_id ORDER BY user_id
"""
