"""From the tables of a build into Feast's online store: what `FeatureStore.materialize` does, in bulk."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from redis import Redis

from cascade.online.feast_config import ENTITY, PROJECT
from cascade.online.feast_rows import ViewRows, write_rows

if TYPE_CHECKING:
    from feast import FeatureStore

_TIMESTAMP = "event_timestamp"


def materialise(store: FeatureStore, client: Redis, view: str, table: pa.Table, start: datetime, end: datetime) -> int:
    """Write one row a user, and tell Feast's registry that [start, end] of the view is online.

    Users whose stored event is later keep it. Returns the number of rows written.

    Args:
        store: its registry knows the view
        client: of the Redis that the store is configured with
        table: user_id, event_timestamp (microseconds, UTC) and the view's features; the newest row of each user alone
    """
    features = [field.name for field in store.get_feature_view(view).features]
    rows = ViewRows(
        view,
        table.column(ENTITY).to_pylist(),
        table.column(_TIMESTAMP).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist(),
        {name: table.column(name).to_pylist() for name in features},
    )
    written = write_rows(client, rows)
    store.registry.apply_materialization(store.get_feature_view(view), PROJECT, start, end)
    return written
