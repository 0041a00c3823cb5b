"""The item transform: item_id, categories, price, gender to rows and a standardised log-price."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from cascade.features.columns import numbers_of_column, numbers_of_list, require_columns
from cascade.features.errors import FeatureInputError
from cascade.features.fitted import load_fitted, save_fitted, version_of
from cascade.features.spec import ITEM_CATEGORICAL, OOV, Encoded, Rows
from cascade.features.standardiser import Numbers, Standardiser, known_between
from cascade.features.vocabulary import Vocabulary

KIND = "item-transform"
COLUMNS = ("item_id", "category_l1", "category_l2", "price", "gender")
PRICE_RANGE = (0.0, float(np.finfo(np.float64).max))
"""Prices outside (negative, infinite) are unknown, like null and NaN."""


@dataclass(frozen=True, eq=False)
class ItemTransform:
    """Item columns to `Encoded`.

    categorical [N, 4]: item_id, category_l1, category_l2, item_gender
    continuous [N, 1]: price
    The price enters as log(1 + price), standardised; an unknown one takes the training mean, which is 0 then.
    """

    item_ids: Vocabulary
    categories_l1: Vocabulary
    categories_l2: Vocabulary
    genders: Vocabulary
    price: Standardiser

    @classmethod
    def fit(cls, items: pa.Table, known_item_ids: Iterable[str | None]) -> ItemTransform:
        """Fit on the catalog's items that training saw; an item it never saw keeps the OOV item row.

        Raises FeatureInputError when none of the known ids is in the catalog.
        """
        require_columns(items, COLUMNS, "ItemTransform.fit")
        known = Vocabulary.build(known_item_ids)
        seen = items.filter(pa.array(known.rows(items.column("item_id")) != OOV))
        if not len(seen):
            raise FeatureInputError(
                f"none of the {len(known)} items seen in training is among the catalog's {len(items)}; "
                "pass interactions and catalog of the same shop"
            )
        return cls(
            item_ids=Vocabulary.build(seen.column("item_id")),
            categories_l1=Vocabulary.build(seen.column("category_l1")),
            categories_l2=Vocabulary.build(seen.column("category_l2")),
            genders=Vocabulary.build(seen.column("gender")),
            price=Standardiser.fit(_log_price(numbers_of_column(seen, "price"))),
        )

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Embedding rows of each categorical column, OOV included."""
        return (
            self.item_ids.cardinality,
            self.categories_l1.cardinality,
            self.categories_l2.cardinality,
            self.genders.cardinality,
        )

    @cached_property
    def version(self) -> str:
        """sha256 hex of the fitted content."""
        return version_of(KIND, self._vocabularies, self._standardisers)

    def transform(self, table: pa.Table | pa.RecordBatch) -> Encoded:
        """Encode a table with the columns item_id, category_l1, category_l2, price, gender."""
        require_columns(table, COLUMNS, "ItemTransform.transform")
        return self._assemble(
            self.item_ids.rows(table.column("item_id")),
            self.categories_l1.rows(table.column("category_l1")),
            self.categories_l2.rows(table.column("category_l2")),
            self.genders.rows(table.column("gender")),
            numbers_of_column(table, "price"),
        )

    def encode(
        self,
        item_ids: Sequence[str | None],
        categories_l1: Sequence[str | None],
        categories_l2: Sequence[str | None],
        prices: Sequence[float | None],
        genders: Sequence[str | None],
    ) -> Encoded:
        """Encode a few items; None is unknown. The same numbers as `transform` gives."""
        return self._assemble(
            self.item_ids.rows(item_ids),
            self.categories_l1.rows(categories_l1),
            self.categories_l2.rows(categories_l2),
            self.genders.rows(genders),
            numbers_of_list(prices),
        )

    def _assemble(self, item_ids: Rows, l1: Rows, l2: Rows, genders: Rows, prices: Numbers) -> Encoded:
        categorical = np.empty((len(item_ids), 4), np.int32)
        categorical[:, 0] = item_ids
        categorical[:, 1] = l1
        categorical[:, 2] = l2
        categorical[:, 3] = genders
        return Encoded(categorical, self.price.scale(self.price.fill(_log_price(prices)))[:, None])

    @property
    def _vocabularies(self) -> dict[str, Vocabulary]:
        return {
            "item_id": self.item_ids,
            "category_l1": self.categories_l1,
            "category_l2": self.categories_l2,
            "item_gender": self.genders,
        }

    @property
    def _standardisers(self) -> dict[str, Standardiser]:
        return {"log_price": self.price}

    def save(self, folder: Path) -> None:
        """Write transform.json and one Parquet a vocabulary."""
        save_fitted(folder, KIND, self._vocabularies, self._standardisers)

    @classmethod
    def load(cls, folder: Path) -> ItemTransform:
        """Read what `save` wrote; raises FeatureFileError's subclasses."""
        words, numbers = load_fitted(folder, KIND, ITEM_CATEGORICAL, ("log_price",))
        return cls(
            item_ids=words["item_id"],
            categories_l1=words["category_l1"],
            categories_l2=words["category_l2"],
            genders=words["item_gender"],
            price=numbers["log_price"],
        )


def _log_price(prices: Numbers) -> Numbers:
    return np.log1p(known_between(prices, *PRICE_RANGE))
