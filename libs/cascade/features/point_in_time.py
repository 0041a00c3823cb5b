"""Point-in-time features: what was known about a user at the moment of each row, and nothing newer.

A training row at time t sees the top category of [t - 24 h, t) (its definition: top_category.py). The same query
answers for the online store, asked for every user at one moment; so training sees what serving would have seen.

How it scales: one day at a time, with the day before it in view; so memory follows the largest two days, not the
history. Within them the cost is linear in (rows × categories their user met): every row asks each of its user's
categories for its weight in the window by one range frame, and no row meets another user's, nor is the window
itself ever expanded, so that a user with a hundred thousand events costs no more per row than anyone else.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cascade.features.errors import FeatureInputError
from cascade.features.source import InteractionSource, QueryLimits, files_of, session
from cascade.features.spec import NEGATIVE_EVENT_TYPES, TOP_CATEGORY_WINDOW_S
from cascade.features.top_category import EVENT_WEIGHTS, OTHER_WEIGHT, EventWeights
from cascade.files import replacing

ROW_GROUP = 1 << 19
_DAY = dt.timedelta(days=1)
DAY_S = 24 * 3600

ROWS_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", pa.int64()),
        ("device_type", pa.string()),
        ("event_type", pa.string()),
        ("age", pa.int64()),
        ("gender", pa.string()),
        ("top_category", pa.string()),
        ("feature_timestamp", pa.int64()),
    ]
)
ONLINE_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("top_category", pa.string()),
        ("event_timestamp", pa.timestamp("us", tz="UTC")),
    ]
)

Progress = Callable[[int, int], None]
"""Called with days done and days in all."""


@dataclass(frozen=True)
class TrainingRowsStats:
    """What was written, and how much of it is unknown."""

    rows: int
    rows_without_top_category: int
    rows_of_unknown_users: int
    rows_of_unknown_items: int


def training_rows(
    dataset: InteractionSource,
    days: Collection[dt.date],
    out: Path,
    *,
    weights: EventWeights = EVENT_WEIGHTS,
    limits: QueryLimits | None = None,
    progress: Progress | None = None,
) -> TrainingRowsStats:
    """Write the interactions of `days` with their users' features as of each row's own moment.

    Every row is a positive example: interactions of the negative types are left out, and count by their weight alone.
    `out` becomes one Parquet file of ROWS_SCHEMA, ordered by timestamp, user_id, item_id (then device and event
    type, so that the order is total). age and gender are null for users the dataset does not know;
    feature_timestamp is the newest event that top_category used, always before timestamp, null if there is none.
    Raises FeatureInputError: a day is not in the dataset, a row lies outside its day, a user or item repeats.
    """
    chosen = sorted(set(days))
    files_of(dataset, chosen)  # refuses an unknown day before the first is computed
    present = set(dataset.days())
    counts = [0, 0, 0, 0]
    with (
        session(limits) as connection,
        replacing(out) as beside,
        pq.ParquetWriter(beside, ROWS_SCHEMA, compression="zstd", compression_level=1) as writer,
    ):
        load_catalog(connection, dataset, weights)
        for done, day in enumerate(chosen, start=1):
            start = _seconds(day)
            in_view = files_of(dataset, {day - _DAY, day} & present)
            connection.execute(_LEARN_USERS, {"files": in_view})
            _load_rows(connection, files_of(dataset, [day]), day)
            load_events(connection, in_view, start - TOP_CATEGORY_WINDOW_S, start + DAY_S)
            top_of_rows(connection)
            for batch in connection.execute(_ROWS_WITH_FEATURES).to_arrow_reader(ROW_GROUP):
                writer.write_batch(batch.cast(ROWS_SCHEMA), row_group_size=ROW_GROUP)
            for at, count in enumerate(connection.execute(_COUNTS).fetchone()):
                counts[at] += count
            if progress:
                progress(done, len(chosen))
    return TrainingRowsStats(*counts)


def online_top_categories(
    dataset: InteractionSource,
    at: int,
    *,
    weights: EventWeights = EVENT_WEIGHTS,
    limits: QueryLimits | None = None,
) -> pa.Table:
    """Every user's top category at `at` (UTC seconds): user_id, top_category, event_timestamp (µs, UTC).

    Holds the users who have one, ordered by user_id; event_timestamp is their newest event in [at - 24 h, at).
    """
    since = at - TOP_CATEGORY_WINDOW_S
    in_view = [day for day in dataset.days() if _seconds(day) + DAY_S > since and _seconds(day) < at]
    files = [str(file) for file in dataset.interaction_files(in_view)] if in_view else []
    if not files:
        return ONLINE_SCHEMA.empty_table()
    with session(limits) as connection:
        load_catalog(connection, dataset, weights)
        connection.execute(_LEARN_USERS, {"files": files})
        load_events(connection, files, since, at)
        connection.execute(_MOMENT_OF_ALL, {"at": at})
        connection.execute(_TOP, {"window": TOP_CATEGORY_WINDOW_S})
        found = connection.execute(_ONLINE).to_arrow_table()
    moments = pc.multiply(found.column("feature_timestamp").cast(pa.int64()), 1_000_000)
    return pa.table(
        [found.column("user_id"), found.column("top_category"), moments.cast(ONLINE_SCHEMA.field(2).type)],
        schema=ONLINE_SCHEMA,
    )


def _seconds(day: dt.date) -> int:
    return int(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp())


def load_catalog(connection: Any, dataset: InteractionSource, weights: EventWeights) -> None:
    """Tables users, categories (keys in code point order), items (with category_key), user_keys; those of weights."""
    connection.register("users_given", dataset.users())
    connection.register("items_given", dataset.items())
    for key, query in (("user_id", _REPEATED_USER), ("item_id", _REPEATED_ITEM)):
        repeated = connection.execute(query).fetchone()
        if repeated:
            raise FeatureInputError(f"{key} {repeated[0]!r} repeats; every id stands once in its table")
    for statement in _CATALOG:
        connection.execute(statement)
    _load_weights(connection, weights)


def _load_weights(connection: Any, weights: EventWeights) -> None:
    """Tables weights and negative_types."""
    types = {"event_type": pa.array(list(weights), pa.string()), "event_weight": pa.array(weights.values(), pa.int64())}
    connection.register("weights", pa.table(types))
    connection.register("negative_types", pa.table({"event_type": list(NEGATIVE_EVENT_TYPES)}))


def _load_rows(connection: Any, files: list[str], day: dt.date) -> None:
    """Table rows: the day's interactions, but the negative ones."""
    connection.execute(_ALL_ROWS, {"files": files})
    # The window looks at this day and the one before: a row of another day would get a wrong answer.
    stray = connection.execute(_STRAY, {"start": _seconds(day), "end": _seconds(day) + DAY_S}).fetchone()
    if stray:
        raise FeatureInputError(
            f"the interactions of {day} hold the timestamp {stray[0]}, which is another UTC day; "
            "move such rows to their own day"
        )
    connection.execute(_ROWS)


def load_events(connection: Any, files: list[str], since: int, until: int) -> None:
    """Table events: what [since, until) adds to each (user, category) at each second."""
    connection.execute(_EVENTS, {"files": files, "since": since, "until": until, "other": OTHER_WEIGHT})


def top_of_rows(connection: Any) -> None:
    """Table top: the top category of each moment of the table rows, by the table events."""
    connection.execute(_MOMENTS_OF_ROWS)
    connection.execute(_TOP, {"window": TOP_CATEGORY_WINDOW_S})


_REPEATED_USER = "SELECT user_id FROM users_given GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT 1"
_REPEATED_ITEM = "SELECT item_id FROM items_given GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT 1"

_CATALOG = (
    "CREATE TEMP TABLE users AS SELECT user_id, age, gender FROM users_given",
    """
    CREATE TEMP TABLE categories AS
    SELECT category, row_number() OVER (ORDER BY category)::INTEGER AS category_key
    FROM (SELECT DISTINCT category_l1 AS category FROM items_given WHERE category_l1 <> '')
    """,
    """
    CREATE TEMP TABLE items AS
    SELECT item_id, category_key FROM items_given LEFT JOIN categories ON category_l1 = category
    """,
    "CREATE TEMP TABLE user_keys AS SELECT user_id, row_number() OVER ()::INTEGER AS user_key FROM users",
)

# Integers group and sort several times faster than ids. Visitors whom users.parquet does not know get their keys as
# they are met.
_LEARN_USERS = """
    INSERT INTO user_keys
    SELECT user_id, row_number() OVER () + (SELECT count(*) FROM user_keys)
    FROM (
        SELECT DISTINCT user_id FROM interactions_in($files)
        ANTI JOIN user_keys USING (user_id)
    )
"""

_ALL_ROWS = """
    CREATE OR REPLACE TEMP TABLE all_rows AS
    SELECT user_id, user_key, item_id, timestamp::BIGINT AS timestamp, device_type, event_type
    FROM interactions_in($files) JOIN user_keys USING (user_id)
"""

_ROWS = "CREATE OR REPLACE TEMP TABLE rows AS FROM all_rows ANTI JOIN negative_types USING (event_type)"

_STRAY = "SELECT timestamp FROM all_rows WHERE timestamp < $start OR timestamp >= $end ORDER BY timestamp LIMIT 1"

_EVENTS = """
    CREATE OR REPLACE TEMP TABLE events AS
    SELECT user_key, category_key, timestamp::BIGINT AS timestamp, sum(coalesce(event_weight, $other)) AS weight
    FROM interactions_in($files)
    JOIN user_keys USING (user_id) JOIN items USING (item_id) LEFT JOIN weights USING (event_type)
    WHERE category_key IS NOT NULL AND timestamp >= $since AND timestamp < $until
    GROUP BY ALL
"""

_MOMENTS_OF_ROWS = "CREATE OR REPLACE TEMP TABLE moments AS SELECT DISTINCT user_key, timestamp FROM rows"

_MOMENT_OF_ALL = """
    CREATE OR REPLACE TEMP TABLE moments AS SELECT DISTINCT user_key, $at::BIGINT AS timestamp FROM events
"""

# Events and moments answered. A moment asks each category its user may have met in time, by a row of its own among
# that category's events: a row without weight, whose frame over the 24 hours before it sums the rows that have one
# and takes the last of them. Moments that saw nothing are absent from the answer; those that saw no category of
# positive weight have none.
_TOP = """
    CREATE OR REPLACE TEMP TABLE top AS
    WITH met AS (
        SELECT user_key, category_key, min(timestamp) AS first, max(timestamp) AS last FROM events GROUP BY ALL
    ), timeline AS (
        SELECT user_key, category_key, timestamp, weight, false AS asks FROM events
        UNION ALL
        SELECT user_key, category_key, timestamp, NULL, true FROM moments JOIN met USING (user_key)
        WHERE first < timestamp AND last >= timestamp - $window
    ), seen AS (
        SELECT user_key, category_key, timestamp, asks,
               sum(weight) OVER before AS weight,
               last_value(CASE WHEN NOT asks THEN timestamp END IGNORE NULLS) OVER before AS latest
        FROM timeline
        WINDOW before AS (
            PARTITION BY user_key, category_key ORDER BY timestamp
            RANGE BETWEEN $window PRECEDING AND 1 PRECEDING
        )
    )
    SELECT user_key, timestamp,
           arg_max(category_key, (weight, latest, -category_key)) FILTER (weight > 0) AS category_key,
           max(latest) AS feature_timestamp
    FROM seen
    WHERE asks AND latest IS NOT NULL
    GROUP BY user_key, timestamp
"""

_ROWS_WITH_FEATURES = """
    SELECT rows.user_id, rows.item_id, rows.timestamp, rows.device_type, rows.event_type,
           users.age, users.gender, categories.category AS top_category, top.feature_timestamp
    FROM rows
    LEFT JOIN users ON users.user_id = rows.user_id
    LEFT JOIN top ON top.user_key = rows.user_key AND top.timestamp = rows.timestamp
    LEFT JOIN categories ON categories.category_key = top.category_key
    ORDER BY rows.timestamp, rows.user_id, rows.item_id, rows.device_type, rows.event_type
"""

_COUNTS = """
    SELECT count(*),
           count(*) FILTER (top.category_key IS NULL),
           count(*) FILTER (users.user_id IS NULL),
           count(*) FILTER (items.item_id IS NULL)
    FROM rows
    LEFT JOIN users ON users.user_id = rows.user_id
    LEFT JOIN items ON items.item_id = rows.item_id
    LEFT JOIN top ON top.user_key = rows.user_key AND top.timestamp = rows.timestamp
"""

_ONLINE = """
    SELECT user_id, category AS top_category, feature_timestamp
    FROM top JOIN user_keys USING (user_key) JOIN categories USING (category_key)
    ORDER BY user_id
"""
