"""Forgotten users are in nothing that the next fine-tuning learns from."""

import numpy as np
import pyarrow as pa

from cascade.features.spec import Encoded
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import UserTransform
from cascade.privacy.suppression import digest_of
from orchestration.forgotten import Forgotten

IDS = ["a", "b", "c"]


def transform() -> UserTransform:
    users = pa.table({"user_id": IDS, "age": pa.array([20, 30, 40], pa.int64()), "gender": ["f", "m", "f"]})
    return UserTransform.fit(users, ["x"])


def encoded(rows: list[int]) -> TrainingSet:
    count = len(rows)
    users = np.zeros((count, 4), np.int32)
    users[:, 0] = rows
    return TrainingSet(
        Encoded(users, np.zeros((count, 1), np.float32)),
        Encoded(np.zeros((count, 1), np.int32), np.zeros((count, 4), np.float32)),
        np.arange(count, dtype=np.int32),
        np.arange(count, dtype=np.int64),
    )


def test_rows_of_a_table_and_of_an_encoded_set() -> None:
    users, gone = transform(), Forgotten(frozenset({digest_of("b"), digest_of("never known")}))
    rows = users.user_ids.rows(["a", "b", None, "b", "c"]).tolist()
    assert len(set(rows)) == 4
    left = gone.out_of_set(encoded(rows), users)
    assert left.item_position.tolist() == [0, 2, 4]
    assert gone.out_of(pa.table({"user_id": ["a", "b", "c", "b"]}))["user_id"].to_pylist() == ["a", "c"]


def test_where_nobody_was_forgotten_nothing_changes() -> None:
    rows, table = encoded([1, 2]), pa.table({"user_id": ["a"]})
    for nobody in (Forgotten(frozenset()), Forgotten(frozenset({digest_of("z")}))):
        assert nobody.out_of_set(rows, transform()) is rows
        assert nobody.out_of(table) is table
