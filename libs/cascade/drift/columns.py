"""The columns of a model's inputs that are watched, by name, out of what transforms made of them.

Hour and weekday are left out: of one hour they are one value, whatever training saw. Of an id it is watched whether the
model knows it; which of the known ones come is traffic, and no change of what the model was made for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cascade.drift.reference import HOURS, Bins, CategoryBins, FeatureReference, NumberBins, Reference
from cascade.features.item_table import ItemTable
from cascade.features.spec import (
    AGE_EDGES,
    CONTEXT_CATEGORICAL,
    ITEM_CATEGORICAL,
    ITEM_CONTINUOUS,
    USER_CATEGORICAL,
    USER_CONTINUOUS,
    Encoded,
)
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform

HISTORY, SCORE = "history_length", "score"

HOUR_S = 3600

Column = NDArray[np.int32] | NDArray[np.int64] | NDArray[np.float32] | NDArray[np.float64]
"""[N] or [N, W]: rows of a vocabulary (integers) or numbers (floating)."""

Names = Mapping[str, Sequence[str] | None]
"""category → names of its rows 1, 2, …; None for ids."""


def hours_of(timestamp: NDArray[np.integer]) -> NDArray[np.int64]:
    """UTC seconds to the hour of the day."""
    return np.asarray(timestamp, np.int64) // HOUR_S % HOURS


def user_columns(user: Encoded) -> dict[str, Column]:
    """[N] each."""
    return _named(user, USER_CATEGORICAL, USER_CONTINUOUS)


def context_columns(context: Encoded) -> dict[str, Column]:
    """The device, [N]."""
    return _named(context, CONTEXT_CATEGORICAL, ())


def item_columns(items: ItemTable, positions: NDArray[np.integer]) -> dict[str, Column]:
    """Of items shown: [N, W] each, as the positions are."""
    columns = _named(items.encoded, ITEM_CATEGORICAL, ITEM_CONTINUOUS)
    return {name: column[positions] for name, column in columns.items()}


def user_names(transform: UserTransform) -> Names:
    """See Names."""
    edges = [str(edge) for edge in AGE_EDGES]
    between = [f"{low} to {int(high) - 1}" for low, high in pairwise(edges)]
    ages = [f"below {edges[0]}", *between, f"{edges[-1]} and older"]
    return {
        "user_id": None,
        "gender": transform.genders.values,
        "age_bucket": ages,
        "top_category": transform.top_categories.values,
    }


def context_names(transform: ContextTransform) -> Names:
    """See Names."""
    return {"device_type": transform.devices.values}


def item_names(transform: ItemTransform) -> Names:
    """See Names."""
    return {
        "item_id": None,
        "category_l1": transform.categories_l1.values,
        "category_l2": transform.categories_l2.values,
        "item_gender": transform.genders.values,
    }


def features_of(columns: Mapping[str, Column], hours: NDArray[np.int64], names: Names) -> dict[str, FeatureReference]:
    """Bins of each column by its own values, and counts by hour of the day; a column without values is left out."""
    made = {}
    for name, column in columns.items():
        if not np.isfinite(column).any():
            continue
        whole = np.issubdtype(column.dtype, np.integer)
        bins: Bins = CategoryBins.fit(column, names[name]) if whole else NumberBins.fit(column)
        made[name] = FeatureReference.count(bins, column, hours)
    return made


def join(*parts: Mapping[str, FeatureReference]) -> Reference:
    """The features of all parts."""
    return Reference({name: feature for part in parts for name, feature in part.items()})


def _named(encoded: Encoded, categorical: Sequence[str], continuous: Sequence[str]) -> dict[str, Column]:
    columns: dict[str, Column] = {name: encoded.categorical[:, at] for at, name in enumerate(categorical)}
    return {**columns, **{name: encoded.continuous[:, at] for at, name in enumerate(continuous)}}
