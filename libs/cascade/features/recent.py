"""What users did last as of one moment: what the online store starts from, before live traffic adds to it."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa

from cascade.features.source import InteractionSource, QueryLimits, session
from cascade.features.spec import RECENT_LENGTH

SCHEMA = pa.schema([("user_id", pa.string()), ("entries", pa.list_(pa.string()))])
_DAY_S = 86_400


def recent_interactions(
    source: InteractionSource,
    at: int,
    days: int,
    *,
    length: int = RECENT_LENGTH,
    limits: QueryLimits | None = None,
) -> pa.Table:
    """Each user's latest interactions in [at - days, at): user_id, entries `timestamp|event_type|item_id`.

    Newest first, at most `length`; events of one second in a fixed order. at: UTC seconds.
    Holds the users who have any, ordered by user_id.
    """
    since = at - days * _DAY_S
    in_view = [day for day in source.days() if _start(day) + _DAY_S > since and _start(day) < at]
    files = [str(file) for file in source.interaction_files(in_view)] if in_view else []
    if not files or days < 1:
        return SCHEMA.empty_table()
    with session(limits) as connection:
        given = {"files": files, "since": since, "until": at, "length": length}
        return connection.execute(_LATEST, given).to_arrow_table().cast(SCHEMA)


def _start(day: dt.date) -> int:
    return int(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp())


_LATEST = """
    WITH ranked AS (
        SELECT user_id, item_id, timestamp, event_type,
               row_number() OVER (PARTITION BY user_id ORDER BY timestamp DESC, item_id DESC, event_type DESC) AS place
        FROM interactions_in($files)
        WHERE timestamp >= $since AND timestamp < $until AND user_id IS NOT NULL
    )
    SELECT user_id, list(concat_ws('|', timestamp, event_type, item_id) ORDER BY place) AS entries
    FROM ranked WHERE place <= $length GROUP BY user_id ORDER BY user_id
"""
