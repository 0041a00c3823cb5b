from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cascade.features.item_table import ItemTable
from cascade.features.shown_rows import SHOWN_SCHEMA
from cascade.features.spec import Encoded
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from cascade.training.errors import TrainingInputError
from cascade.training.impressions import MOST_WEIGHT, PLACES, Impressions, PositionBias


def rows(count: int) -> TrainingSet:
    some = Encoded(np.zeros((count, 4), np.int32), np.zeros((count, 1), np.float32))
    where = Encoded(np.zeros((count, 1), np.int32), np.zeros((count, 4), np.float32))
    return TrainingSet(some, where, np.zeros(count, np.int32), np.zeros(count, np.int64))


def shown(position: np.ndarray, clicked: np.ndarray, propensity: np.ndarray | None = None) -> Impressions:
    chance = np.ones(len(position), np.float32) if propensity is None else propensity.astype(np.float32)
    return Impressions(rows(len(position)), clicked, position.astype(np.int32), chance)


def test_the_first_place_adds_nothing_and_unknown_ones_are_like_it() -> None:
    bias = PositionBias()
    with torch.no_grad():
        bias.shown.fill_(-2.0)
        bias.by_place.copy_(-torch.arange(1.0, PLACES))
    found = bias(torch.tensor([0, -1, 1, 7, PLACES - 1, 10 * PLACES])).tolist()
    assert found == [-2.0, -2.0, -3.0, -9.0, -1.0 - PLACES, -1.0 - PLACES]


def test_the_start_finds_what_places_add() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([0.0, -0.5, -1.0, -2.0])
    position, logits = rng.integers(0, 4, 40_000), rng.normal(0, 1, 40_000).astype(np.float32)
    clicked = rng.random(40_000) < 1 / (1 + np.exp(-(logits - 1.0 + truth[position])))
    bias = PositionBias()
    bias.start(logits, shown(position, clicked))
    assert bias.shown.item() == pytest.approx(-1.0, abs=0.1)
    np.testing.assert_allclose(bias.by_place[:3].detach().numpy(), truth[1:], atol=0.12)
    assert not bias.by_place[3:].any()  # nothing was shown there


def test_rare_chances_weigh_more_within_a_bound() -> None:
    weight = shown(np.zeros(3), np.zeros(3, bool), np.array([1.0, 0.25, 1e-6])).weight
    assert weight.tolist() == [1.0, 4.0, MOST_WEIGHT]


@pytest.mark.parametrize("propensity", [0.0, 1.5])
def test_chances_out_of_bounds_are_refused(propensity: float) -> None:
    with pytest.raises(TrainingInputError, match="above 0 and up to 1"):
        shown(np.zeros(2), np.zeros(2, bool), np.array([1.0, propensity]))


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(TrainingInputError, match="one value a row"):
        shown(np.zeros(2), np.zeros(3, bool))


def test_a_file_of_shown_rows_is_read_without_items_that_are_gone(tmp_path: Path) -> None:
    catalog = pa.table(
        {
            "item_id": ["a", "b"], "category_l1": ["x", "y"], "category_l2": ["x1", "y1"], "price": [1.0, 2.0],
            "gender": ["F", "M"],
        }
    )  # fmt: skip
    users = pa.table({"user_id": ["u"], "age": [30], "gender": ["F"]})
    content = np.zeros((2, 64), np.float32)
    items = ItemTable.build(catalog, ItemTransform.fit(catalog, ["a", "b"]), content, content)
    told = {
        "user_id": ["u"] * 3, "item_id": ["b", "gone", "a"], "timestamp": [5, 6, 7], "device_type": ["mobile"] * 3,
        "age": [30] * 3, "gender": ["F"] * 3, "top_category": ["x"] * 3, "feature_timestamp": [None] * 3,
        "position": [0, 1, 2], "propensity": [1.0, 0.5, 0.25], "clicked": [True, True, False],
    }  # fmt: skip
    pq.write_table(pa.table(told, schema=SHOWN_SCHEMA), tmp_path / "shown.parquet")
    context = ContextTransform.fit(pa.table({"device_type": ["mobile"]}))
    found = Impressions.read(tmp_path / "shown.parquet", UserTransform.fit(users, ["x", "y"]), context, items)
    assert found.rows.item_position.tolist() == [1, 0]
    assert found.rows.timestamp.tolist() == [5, 7]
    assert (found.position.tolist(), found.propensity.tolist()) == ([0, 2], [1.0, 0.25])
    assert found.clicked.tolist() == [True, False]
