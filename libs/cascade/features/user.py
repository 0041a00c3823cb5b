"""The user transform: user_id, age, gender, top_category to rows and a standardised age."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from cascade.features.columns import numbers_of_column, numbers_of_list, require_columns
from cascade.features.fitted import load_fitted, save_fitted, version_of
from cascade.features.spec import AGE_EDGES, Encoded, Rows
from cascade.features.standardiser import Numbers, Standardiser, known_between
from cascade.features.vocabulary import Vocabulary

KIND = "user-transform"
COLUMNS = ("user_id", "age", "gender", "top_category")
AGE_RANGE = (0.0, 130.0)
"""Ages outside are typing errors: treated as unknown, like null and NaN."""

_EDGES = np.array(AGE_EDGES, np.float64)


@dataclass(frozen=True, eq=False)
class UserTransform:
    """User columns to `Encoded`.

    categorical [N, 4]: user_id, gender, age_bucket, top_category
    continuous [N, 1]: age
    An unknown age becomes the training mean before anything else, so its standardised value is 0 and its
    bucket the mean's. Buckets are rows 1 to 6 (below 18, 18-24, ..., 65 and older).
    """

    user_ids: Vocabulary
    genders: Vocabulary
    top_categories: Vocabulary
    age: Standardiser

    @classmethod
    def fit(cls, users: pa.Table, categories: Iterable[str | None]) -> UserTransform:
        """Fit on the training users (user_id, age, gender) and the shop's category_l1 values."""
        require_columns(users, ("user_id", "age", "gender"), "UserTransform.fit")
        return cls(
            user_ids=Vocabulary.build(users.column("user_id")),
            genders=Vocabulary.build(users.column("gender")),
            top_categories=Vocabulary.build(categories),
            age=Standardiser.fit(known_between(numbers_of_column(users, "age"), *AGE_RANGE)),
        )

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Embedding rows of each categorical column, OOV included."""
        return (
            self.user_ids.cardinality,
            self.genders.cardinality,
            len(AGE_EDGES) + 2,
            self.top_categories.cardinality,
        )

    @cached_property
    def version(self) -> str:
        """sha256 hex of the fitted content."""
        return version_of(KIND, self._vocabularies, self._standardisers)

    def transform(self, table: pa.Table | pa.RecordBatch) -> Encoded:
        """Encode a table with the columns user_id, age, gender, top_category."""
        require_columns(table, COLUMNS, "UserTransform.transform")
        return self._assemble(
            self.user_ids.rows(table.column("user_id")),
            self.genders.rows(table.column("gender")),
            self.top_categories.rows(table.column("top_category")),
            numbers_of_column(table, "age"),
        )

    def encode(
        self,
        user_ids: Sequence[str | None],
        ages: Sequence[float | None],
        genders: Sequence[str | None],
        top_categories: Sequence[str | None],
    ) -> Encoded:
        """Encode one or a few requests; None is unknown. The same numbers as `transform` gives."""
        return self._assemble(
            self.user_ids.rows(user_ids),
            self.genders.rows(genders),
            self.top_categories.rows(top_categories),
            numbers_of_list(ages),
        )

    def _assemble(self, user_ids: Rows, genders: Rows, top_categories: Rows, ages: Numbers) -> Encoded:
        filled = self.age.fill(known_between(ages, *AGE_RANGE))
        categorical = np.empty((len(user_ids), 4), np.int32)
        categorical[:, 0] = user_ids
        categorical[:, 1] = genders
        categorical[:, 2] = _EDGES.searchsorted(filled, side="right") + 1
        categorical[:, 3] = top_categories
        return Encoded(categorical, self.age.scale(filled)[:, None])

    @property
    def _vocabularies(self) -> dict[str, Vocabulary]:
        return {"user_id": self.user_ids, "gender": self.genders, "top_category": self.top_categories}

    @property
    def _standardisers(self) -> dict[str, Standardiser]:
        return {"age": self.age}

    def save(self, folder: Path) -> None:
        """Write transform.json and one Parquet a vocabulary."""
        save_fitted(folder, KIND, self._vocabularies, self._standardisers)

    @classmethod
    def load(cls, folder: Path) -> UserTransform:
        """Read what `save` wrote; raises FeatureFileError's subclasses."""
        words, numbers = load_fitted(folder, KIND, ("user_id", "gender", "top_category"), ("age",))
        return cls(words["user_id"], words["gender"], words["top_category"], numbers["age"])
