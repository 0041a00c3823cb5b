"""Popularity: what the shop's visitors met most, over all and by category.

It is the answer of last resort (retrieval is down), the first thing a new visitor may see, and the baseline that
a learned model must beat.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.features.errors import FeatureFileCorruptedError, FeatureInputError
from cascade.features.files import FORMAT, read_json, write_json
from cascade.features.source import InteractionSource, QueryLimits, files_of, session
from cascade.features.spec import NEGATIVE_EVENT_TYPES

KIND = "popularity"
TOP_N = 1000

Ranked = tuple[tuple[str, float], ...]
"""(item_id, score), best first."""


@dataclass(frozen=True)
class Popularity:
    """Items ranked by interactions; score is their count, ties go by item_id.

    global_: over the whole shop; by_l1, by_l2: within a category_l1 or category_l2
    """

    global_: Ranked
    by_l1: Mapping[str, Ranked]
    by_l2: Mapping[str, Ranked]

    def save(self, path: Path) -> None:
        """Write one JSON file."""
        content: dict[str, Any] = {
            "kind": KIND,
            "format": FORMAT,
            "global": self.global_,
            "by_l1": self.by_l1,
            "by_l2": self.by_l2,
        }
        write_json(path, content)

    @classmethod
    def load(cls, path: Path) -> Popularity:
        """Read what `save` wrote; raises FeatureFileError's subclasses."""
        content = read_json(path, KIND)
        try:
            return cls(
                global_=_ranked(content["global"]),
                by_l1={category: _ranked(rows) for category, rows in content["by_l1"].items()},
                by_l2={category: _ranked(rows) for category, rows in content["by_l2"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FeatureFileCorruptedError(path, f"holds no rankings ({error!r}); count again") from error


def count_popularity(
    dataset: InteractionSource,
    days: Collection[dt.date],
    *,
    top_n: int = TOP_N,
    limits: QueryLimits | None = None,
) -> Popularity:
    """Count the interactions of `days` with items of the catalog, but the negative ones; keep the best `top_n` of each
    ranking.

    Raises FeatureInputError when top_n is below 1, there are no days, or a day is not in the dataset.
    """
    if top_n < 1:
        raise FeatureInputError(f"top_n is {top_n}; a ranking keeps at least one item")
    files = files_of(dataset, days)
    with session(limits) as connection:
        connection.register("items_given", dataset.items())
        connection.execute(_COUNTS, {"files": files, "negative": list(NEGATIVE_EVENT_TYPES)})
        return Popularity(
            global_=_ranking(connection, "all", top_n).get("", ()),
            by_l1=_ranking(connection, "l1", top_n),
            by_l2=_ranking(connection, "l2", top_n),
        )


# One row for every ranking an item stands in; an item without a category stands in no ranking of that level.
_COUNTS = """
    CREATE TEMP TABLE counts AS
    WITH counted AS (
        SELECT item_id, any_value(category_l1) AS l1, any_value(category_l2) AS l2, count(*)::DOUBLE AS score
        FROM interactions_in($files) JOIN items_given USING (item_id)
        WHERE NOT list_contains($negative, event_type)
        GROUP BY item_id
    )
    SELECT 'all' AS level, '' AS category, item_id, score FROM counted
    UNION ALL
    SELECT 'l1', l1, item_id, score FROM counted WHERE l1 <> ''
    UNION ALL
    SELECT 'l2', l2, item_id, score FROM counted WHERE l2 <> ''
"""

_RANKED = """
    SELECT category, item_id, score FROM counts WHERE level = $level
    QUALIFY row_number() OVER (PARTITION BY category ORDER BY score DESC, item_id) <= $top_n
    ORDER BY category, score DESC, item_id
"""


def _ranking(connection: Any, level: str, top_n: int) -> dict[str, Ranked]:
    ranked: dict[str, list[tuple[str, float]]] = {}
    for category, item_id, score in connection.execute(_RANKED, {"level": level, "top_n": top_n}).fetchall():
        ranked.setdefault(category, []).append((item_id, score))
    return {category: tuple(entries) for category, entries in ranked.items()}


def _ranked(rows: list[list[Any]]) -> Ranked:
    return tuple((str(item_id), float(score)) for item_id, score in rows)
