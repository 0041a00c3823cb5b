"""Items shown in lists, with their users' features as of that moment: `training_rows` for impressions."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cascade.features import point_in_time as moments
from cascade.features.columns import require_columns
from cascade.features.source import InteractionSource, QueryLimits, files_of, session
from cascade.features.spec import TOP_CATEGORY_WINDOW_S
from cascade.features.top_category import EVENT_WEIGHTS, EventWeights
from cascade.files import replacing

_SHOWN = ("user_id", "item_id", "timestamp", "device_type", "position", "propensity", "clicked")

SHOWN_SCHEMA = pa.schema(
    [
        *(field for field in moments.ROWS_SCHEMA if field.name != "event_type"),
        ("position", pa.int32()),
        ("propensity", pa.float64()),
        ("clicked", pa.bool_()),
    ]
)


def shown_rows(
    dataset: InteractionSource,
    impressions: pa.Table,
    out: Path,
    *,
    weights: EventWeights = EVENT_WEIGHTS,
    limits: QueryLimits | None = None,
) -> int:
    """Write these impressions (columns as in the data contract) with their users' features; returns how many.

    `out` becomes one Parquet file of SHOWN_SCHEMA, ordered by timestamp, user, position and item, which
    `TrainingSet.build` reads. Features see only interactions before the moment of showing, of the dataset's days.
    Raises FeatureInputError where a column is missing or a user or item of the catalog repeats.
    """
    require_columns(impressions, list(_SHOWN), "shown_rows")
    day_of = pc.divide(impressions.column("timestamp"), moments.DAY_S)
    present = set(dataset.days())
    count = 0
    with (
        session(limits) as connection,
        replacing(out) as beside,
        pq.ParquetWriter(beside, SHOWN_SCHEMA, compression="zstd", compression_level=1) as writer,
    ):
        moments.load_catalog(connection, dataset, weights)
        for number in sorted(pc.unique(day_of).to_pylist()):
            day = dt.date(1970, 1, 1) + dt.timedelta(days=number)
            of_day = impressions.filter(pc.equal(day_of, number)).select(list(_SHOWN))
            days = {day - dt.timedelta(days=1), day} & present
            in_view = files_of(dataset, days) if days else []
            connection.register("shown_given", of_day)
            connection.execute(_LEARN_USERS)
            connection.execute(_ROWS)
            start = number * moments.DAY_S
            _top_categories(connection, in_view, start)
            for batch in connection.execute(_WITH_FEATURES).to_arrow_reader(moments.ROW_GROUP):
                writer.write_batch(batch.cast(SHOWN_SCHEMA), row_group_size=moments.ROW_GROUP)
            count += len(of_day)
    return count


def _top_categories(connection: Any, files: list[str], start: int) -> None:
    if files:
        moments.load_events(connection, files, start - TOP_CATEGORY_WINDOW_S, start + moments.DAY_S)
    else:
        connection.execute(_NO_EVENTS)
    moments.top_of_rows(connection)


_LEARN_USERS = """
    INSERT INTO user_keys
    SELECT user_id, row_number() OVER () + (SELECT count(*) FROM user_keys)
    FROM (SELECT DISTINCT user_id FROM shown_given ANTI JOIN user_keys USING (user_id))
"""

_ROWS = """
    CREATE OR REPLACE TEMP TABLE rows AS
    SELECT shown_given.*, user_key FROM shown_given JOIN user_keys USING (user_id)
"""

_NO_EVENTS = """
    CREATE OR REPLACE TEMP TABLE events (user_key BIGINT, category_key INTEGER, timestamp BIGINT, weight BIGINT)
"""

_WITH_FEATURES = """
    SELECT rows.user_id, rows.item_id, rows.timestamp, rows.device_type, users.age, users.gender,
           categories.category AS top_category, top.feature_timestamp, rows.position, rows.propensity, rows.clicked
    FROM rows
    LEFT JOIN users ON users.user_id = rows.user_id
    LEFT JOIN top ON top.user_key = rows.user_key AND top.timestamp = rows.timestamp
    LEFT JOIN categories ON categories.category_key = top.category_key
    ORDER BY rows.timestamp, rows.user_id, rows.position, rows.item_id
"""
