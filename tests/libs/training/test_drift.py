"""Which rows and lists stand for visitors, and references of models that read less than the build's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from cascade.api.common import MAX_RECENT
from cascade.data.contract import Dataset
from cascade.data.shown_lists import SERVED, ShownLists
from cascade.drift.judge import judge
from cascade.features.point_in_time import training_rows
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import ItemTransform
from cascade.training.drift import (
    PLACES,
    _lengths,
    lists_of,
    one_row_a_visitor,
    plain_lists,
    ranker_reference,
    ranker_served,
    retrieval_reference,
    retrieval_served,
)

DAY_S = 24 * 3600
rows = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3 * DAY_S)), max_size=60)


@given(rows, st.integers(1, 5), st.integers(0, 3))
def test_a_visitor_has_one_row_an_hour(given_rows: list[tuple[int, int]], most: int, seed: int) -> None:
    users = np.array([user for user, _ in given_rows], np.int64)
    moments = np.array([moment for _, moment in given_rows], np.int64)

    chosen = one_row_a_visitor(users, moments, most, seed)

    assert chosen.tolist() == sorted(set(chosen.tolist()))
    known = chosen[users[chosen] != 0]
    assert len({(user, hour) for user, hour in zip(users[known], moments[known] // 3600, strict=True)}) == len(known)
    assert np.bincount(moments[chosen] // 3600 % 24, minlength=1).max(initial=0) <= most
    everyone = one_row_a_visitor(users, moments, len(users) + 1, seed)
    assert {(users[at], moments[at] // 3600) for at in everyone if users[at]} == {
        (user, moment // 3600) for user, moment in given_rows if user
    }


def test_hidden_users_keep_their_part() -> None:
    """Of 100 users with ten rows each in one hour 5 % of the rows are hidden; so are about 5 % of the visitors."""
    users = np.tile(np.arange(1, 101), 10)
    users[np.random.default_rng(0).choice(1000, 50, replace=False)] = 0

    chosen = one_row_a_visitor(users, np.zeros(1000, np.int64), 1000, 0)

    assert (users[chosen] != 0).sum() == 100
    assert (users[chosen] == 0).sum() == 5


def lists(users: list[str], moments: list[int], versions: list[dict[str, str]]) -> ShownLists:
    count = len(users)
    table = pa.table(
        {
            "user_id": users,
            "timestamp": pa.array(moments, pa.int64()),
            "device_type": pa.nulls(count, pa.string()),
            "versions": [json.dumps(one) for one in versions],
            "served": pa.nulls(count, SERVED.type),
        }
    )
    shape = (count, PLACES)
    return ShownLists(table, np.full(shape, "i", object), np.zeros(shape), np.ones(count, bool))


def test_a_visitor_has_one_list_of_the_version_that_is_asked_for() -> None:
    new, old = {"ranker": "v2", "retrieval": "r"}, {"ranker": "v1"}
    shown = lists(["a", "a", "a", "b", "b"], [0, 5, 3600, 0, 1], [new, new, new, old, new])

    of_new = lists_of(shown, "ranker", "v2")

    assert sorted(zip(of_new.lists.column("user_id").to_pylist(), of_new.timestamp // 3600, strict=True)) == [
        ("a", 0), ("a", 1), ("b", 0),
    ]  # fmt: skip
    assert len(lists_of(shown, "ranker", "v1")) == 1
    assert len(lists_of(shown, "retrieval", "v2")) == 0


def test_what_nobody_saw_is_observed_as_nothing(built, tmp_path: Path) -> None:
    nothing = lists([], [], [])
    reference = made(built, tmp_path)

    retrieval = judge("retrieval", reference[0], retrieval_served(nothing, built.retrieval, built.dataset), 1)
    ranker = judge("ranker", reference[1], ranker_served(nothing, built.ranker), 1)

    assert {one.state for one in (*retrieval, *ranker)} == {"too few"}


def test_a_history_is_as_long_as_what_is_served(tmp_path: Path) -> None:
    """Requests carry as many recent items as the online store keeps: a longer history counts as no more."""
    day = tmp_path / "interactions" / "date=2024-01-01"
    day.mkdir(parents=True)
    moments = 1_704_067_200 + np.arange(MAX_RECENT + 30)
    table = {"user_id": ["u"] * len(moments), "item_id": ["i"] * len(moments), "timestamp": moments}
    pq.write_table(pa.table(table), day / "part.parquet")
    asked = pa.table({"user_id": ["u", "u", "new"], "timestamp": [moments[7], moments[-1] + 1, moments[-1]]})

    assert _lengths(asked, Dataset(tmp_path)).tolist() == [7, MAX_RECENT, 0]


def test_a_reference_holds_what_the_models_read_and_no_more(built, tmp_path: Path) -> None:
    retrieval, ranker = made(built, tmp_path)

    user = {"user_id", "gender", "age_bucket", "top_category", "age"}
    assert set(retrieval.features) == {*user, "score"}, "a tower of mode static reads neither device nor history"
    item = {"item_id", "category_l1", "category_l2", "item_gender", "price"}
    assert set(ranker.features) == {*user, "device_type", *item, "score"}
    categories = set(built.dataset.items().column("category_l1").to_pylist())
    assert set(ranker.features["category_l1"].bins.names) <= {*categories, "other", "unknown"}
    score = ranker.features["score"]
    assert score.counts.sum() == PLACES * score.visitors.sum()


def test_lists_are_made_best_first_without_what_was_met(built, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    training_rows(built.dataset, built.dataset.days()[4:5], path)
    asked = pq.read_table(path).slice(0, 60)
    positions, chances = plain_lists(asked, built.retrieval, built.ranker, built.dataset)

    assert positions.shape == chances.shape == (60, PLACES)
    assert (np.diff(chances, axis=1) <= 0).all()
    events = built.dataset.interactions().sort_by("timestamp")
    by_user: dict[str, list[tuple[int, str]]] = {}
    for user, item, moment in zip(
        *(events.column(n).to_pylist() for n in ("user_id", "item_id", "timestamp")), strict=True
    ):
        by_user.setdefault(user, []).append((moment, item))
    left_out = 0
    for row, places in zip(asked.to_pylist(), positions, strict=True):
        earlier = {item for moment, item in by_user[row["user_id"]] if moment < row["timestamp"]}
        left_out += len(earlier)
        assert len(earlier) > 50 or not set(built.ranker.items.ids(places)) & earlier
    assert left_out > 60


def made(built, folder: Path):
    """References of the session's models."""
    days = built.dataset.days()
    training_rows(built.dataset, days[:4], folder / "train.parquet")
    training_rows(built.dataset, days[4:5], folder / "rows.parquet")
    user, where, items = built.ranker.user_transform, built.ranker.context_transform, built.ranker.items
    learned = TrainingSet.build(folder / "train.parquet", user, where, items)
    seen = built.dataset.interactions(days[:4])
    names = ItemTransform.fit(built.dataset.items(), pc.unique(seen.column("item_id")).to_pylist())
    rows = folder / "rows.parquet"
    return (
        retrieval_reference(learned, rows, built.retrieval, built.dataset, 0),
        ranker_reference(learned, rows, built.retrieval, built.ranker, names, built.dataset, 0),
    )
