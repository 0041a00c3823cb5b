"""What training saw: the users, items and devices that occur in the training days' interactions.

Vocabularies are fitted on these, so that an embedding row exists only where training moved it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa

from cascade.features.source import InteractionSource, QueryLimits, files_of, session
from cascade.features.spec import NEGATIVE_EVENT_TYPES


@dataclass(frozen=True)
class Seen:
    """Distinct values in order, each a table for the matching `fit`.

    users: user_id, age, gender of the dataset's users who interacted
    item_ids: pa.string array
    devices: device_type
    """

    users: pa.Table
    item_ids: pa.Array
    devices: pa.Table


def seen_in(dataset: InteractionSource, days: Collection[dt.date], *, limits: QueryLimits | None = None) -> Seen:
    """The users, items and devices of the given days' rows to train on.

    Raises FeatureInputError when a day is not in the dataset.
    """
    return Seen(
        users_seen(dataset, days, limits=limits),
        items_seen(dataset, days, limits=limits),
        devices_seen(dataset, days, limits=limits),
    )


def users_seen(dataset: InteractionSource, days: Collection[dt.date], *, limits: QueryLimits | None = None) -> pa.Table:
    """`Seen.users` alone: one column of the days' rows is read."""
    return _distinct(_USERS, dataset, days, limits)


def items_seen(dataset: InteractionSource, days: Collection[dt.date], *, limits: QueryLimits | None = None) -> pa.Array:
    """`Seen.item_ids` alone."""
    return _distinct(_ITEMS, dataset, days, limits).column("item_id").combine_chunks()


def devices_seen(
    dataset: InteractionSource, days: Collection[dt.date], *, limits: QueryLimits | None = None
) -> pa.Table:
    """`Seen.devices` alone."""
    return _distinct(_DEVICES, dataset, days, limits)


def _distinct(
    query: str, dataset: InteractionSource, days: Collection[dt.date], limits: QueryLimits | None
) -> pa.Table:
    files = {"files": files_of(dataset, days), "negative": list(NEGATIVE_EVENT_TYPES)}
    with session(limits) as connection:
        if query is _USERS:
            connection.register("users_given", dataset.users())
        return connection.execute(query, files).to_arrow_table()


_USERS = """
    SELECT user_id, age, gender FROM users_given
    WHERE user_id IN (
        SELECT DISTINCT user_id FROM interactions_in($files)
        WHERE NOT list_contains($negative, event_type)
    )
    ORDER BY user_id
"""

_ITEMS = """
    SELECT DISTINCT item_id FROM interactions_in($files)
    WHERE NOT list_contains($negative, event_type)
    ORDER BY item_id
"""

_DEVICES = """
    SELECT DISTINCT device_type FROM interactions_in($files)
    WHERE device_type IS NOT NULL AND NOT list_contains($negative, event_type)
    ORDER BY device_type
"""
