"""A release's value from logged lists, with lists that were drawn by a release that is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade.data.contract import IMPRESSIONS_CONTRACT, Dataset, day_folder
from cascade.features.top_category import EVENT_WEIGHTS
from cascade.training.answers import Stages
from cascade.training.errors import EvaluationError
from cascade.training.off_policy import plackett_luce
from cascade.training.questions import ask
from cascade.training.release_value import logged_lists, value_of

TEMPERATURE, LENGTH, LISTS = 1.0, 3, 200


@pytest.fixture(scope="module")
def logged(built, tmp_path_factory: pytest.TempPathFactory):
    """The built release's own lists on the fifth day, clicked at random, in a copy of the shop's folder."""
    root: Path = tmp_path_factory.mktemp("logged")
    for part in built.dataset.root.iterdir():
        (root / part.name).symlink_to(part)
    day = built.dataset.days()[4]
    asked, _ = ask(built.dataset, [day], built.ranker.items, max_rows=LISTS, seed=3, weights=EVENT_WEIGHTS)
    stages = Stages(built.retrieval, built.ranker, built.ranker.items, candidates=40, exclude_seen=True)
    retrieved, chances, _ = stages.weighed(asked, np.zeros((len(asked), 0), np.int32))
    rng = np.random.default_rng(0)
    log_weights = np.where(retrieved < 0, -np.inf, np.log(np.maximum(chances, 1e-12)) / TEMPERATURE)
    drawn = np.argsort(-(log_weights + rng.gumbel(size=log_weights.shape)), axis=1)[:, :LENGTH]
    propensity = plackett_luce(log_weights, drawn)
    clicked = rng.random(drawn.shape) < 0.3
    table, items = asked.table, np.array(built.ranker.items.item_ids, object)

    def each(name: str) -> np.ndarray:
        return np.repeat(np.array(table.column(name).to_pylist(), object), LENGTH)

    shown = items[np.take_along_axis(retrieved, drawn, axis=1)].ravel()
    columns = {
        "request_id": np.repeat([f"r{n}" for n in range(len(asked))], LENGTH),
        "user_id": each("user_id"),
        "timestamp": each("timestamp"),
        "device_type": each("device_type"),
        "item_id": shown,
        "position": np.tile(np.arange(LENGTH), len(asked)),
        "propensity": propensity.ravel(),
        "clicked": clicked.ravel(),
    }
    schema = IMPRESSIONS_CONTRACT.schema
    impressions = pa.table({name: pa.array(columns[name].tolist(), schema.field(name).type) for name in schema.names})
    folder = root / "impressions" / day_folder(day)
    folder.mkdir(parents=True)
    order = rng.permutation(len(impressions))  # a log is in no order that one could rely on
    pq.write_table(impressions.take(pa.array(order)), folder / "part-0.parquet")
    return replace(built, dataset=Dataset(root)), clicked, propensity


def value(logged, **options):
    built = logged[0]
    settings = {"candidates": 40, "temperature": TEMPERATURE, **options}
    return value_of(built.dataset, built.retrieval, built.ranker, **settings)


def test_lists_are_read_as_they_were_shown(logged) -> None:
    built, clicked, propensity = logged
    lists = logged_lists(built.dataset, built.ranker.items, max_lists=10_000, seed=0)
    assert lists.item.shape == (len(clicked), LENGTH)
    assert sorted(lists.propensity.ravel()) == pytest.approx(sorted(propensity.ravel()))
    assert lists.clicked.sum() == clicked.sum()
    some = logged_lists(built.dataset, built.ranker.items, max_lists=50, seed=0)
    assert len(some.questions) == 50
    assert not np.isnan(some.clicked).any()


def test_the_release_that_drew_the_lists_earns_what_they_earned(logged) -> None:
    clicked = logged[1]
    for one in value(logged):
        # DR's click model stands beside what was drawn by chance.
        near = 0.03 if one.estimator == "DR" else 1e-3
        assert one.value == pytest.approx(clicked.sum(axis=1).mean(), rel=near), one
        assert one.low < one.value < one.high


def test_another_release_earns_as_much_where_clicks_are_blind(logged) -> None:
    """Clicks that depend on nothing: 0.9 a list, whoever shows it."""
    found = {(one.estimator, one.assumption): one for one in value(logged, temperature=0.8)}
    robust = found["DR", "cascade"]
    assert robust.low - 0.1 < 0.9 < robust.high + 0.1
    assert robust.effective < len(logged[1])
    assert found["IPS", "cascade"].value == pytest.approx(0.9, abs=0.15)


def test_what_cannot_be_judged_is_refused(logged, built) -> None:
    with pytest.raises(EvaluationError, match="no impressions"):
        value_of(built.dataset, built.retrieval, built.ranker)
    with pytest.raises(EvaluationError, match="temperature 0"):
        value(logged, temperature=0)
    with pytest.raises(EvaluationError, match="no ranker"):
        Stages(built.retrieval, None, built.ranker.items, candidates=5, exclude_seen=False).weighed(None, None)
