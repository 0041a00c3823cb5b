"""Training and serving agree: the same raw rows through the training path and through each service give equal arrays,
and equal answers."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from cascade.api.common import UserFeatures
from cascade.features.item_table import ItemTable
from cascade.features.spec import EVENT_TYPES, HISTORY_LENGTH, RECENT_LENGTH
from cascade.features.training_set import TrainingSet
from cascade.models.dlrm import Dlrm
from cascade.models.matches import EventHistories
from cascade.models.two_tower import TwoTower
from cascade.store import ModelStore
from cascade.store.artifacts import RankerArtifacts, RetrievalArtifacts
from cascade.training.affinities import row_affinities
from cascade.training.query_rows import query_vectors

SAMPLE = 40

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def raw(system: Any) -> list[dict[str, Any]]:
    """Raw evaluation rows, as a service is sent them."""
    path = system.settings.artifacts_dir / "evaluation_rows" / "rows.parquet"
    rows: list[dict[str, Any]] = pq.read_table(path).slice(0, SAMPLE).to_pylist()
    return rows


@pytest.fixture(scope="module")
def encoded(system: Any) -> TrainingSet:
    """The same rows as the training path encoded them."""
    return TrainingSet.load(system.settings.artifacts_dir / "evaluation_set").take(slice(0, SAMPLE))


def user_of(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("user_id", "age", "gender", "top_category")}


def recent_of(row: int, encoded: TrainingSet, item_ids: list[str]) -> list[str]:
    """The row's history as Redis keeps it and a request carries it, newest first."""
    histories = encoded.histories
    assert histories is not None
    events = range(int(histories.history_end[row]) - 1, int(histories.history_start[row]) - 1, -1)[:RECENT_LENGTH]
    return [
        f"{histories.event_timestamp[n]}|{EVENT_TYPES[histories.event_type[n] - 1]}|{item_ids[histories.event_item[n]]}"
        for n in events
    ]


def asked(system: Any, url: str, body: dict[str, Any]) -> dict[str, Any]:
    """A service's answer."""
    answer = httpx.post(url, json=body, headers={"authorization": f"Bearer {system.token}"})
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def context_of(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("device_type", "timestamp")}


def test_services_encode_rows_as_training_did(system: Any, raw: list[dict[str, Any]], encoded: TrainingSet) -> None:
    store = ModelStore(system.settings.model_store_url)
    retrieval = RetrievalArtifacts.load(store.bundle("retrieval", "stable").path)
    ranker = RankerArtifacts.load(store.bundle("ranker", "stable").path)
    columns = {name: [row[name] for row in raw] for name in raw[0]}

    for transform in (retrieval.user_transform, ranker.user_transform):
        user = transform.encode(columns["user_id"], columns["age"], columns["gender"], columns["top_category"])
        np.testing.assert_array_equal(user.categorical, encoded.user.categorical)
        np.testing.assert_array_equal(user.continuous, encoded.user.continuous)
    context = ranker.context_transform.encode(columns["device_type"], columns["timestamp"])
    np.testing.assert_array_equal(context.categorical, encoded.context.categorical)
    np.testing.assert_array_equal(context.continuous, encoded.context.continuous)
    np.testing.assert_array_equal(ranker.items.positions(columns["item_id"]), encoded.item_position)


def test_retrieval_answers_as_the_towers_score(system: Any, raw: list[dict[str, Any]], encoded: TrainingSet) -> None:
    items = ItemTable.load(system.settings.artifacts_dir / "item_table")
    towers = TwoTower.load(system.settings.artifacts_dir / "two_tower")
    candidates = towers.candidate.predict(items.categorical, items.continuous, items.image, items.text)
    queries = query_vectors(
        towers.query, encoded.user, encoded.context, encoded.histories, encoded.timestamp, candidates
    )
    recents = [recent_of(number, encoded, items.item_ids) for number in range(len(raw))]
    assert any(recents)
    url = f"http://127.0.0.1:{system.settings.retrieval_port}/v1/retrieve"

    for row, query, recent in zip(raw, queries, recents, strict=True):
        user = {**user_of(row), "recent": recent}
        answer = asked(system, url, {"user": user, "context": context_of(row), "k": 20})

        scores = candidates @ query  # [N]
        assert set(answer["item_ids"]) == {items.item_ids[n] for n in np.argsort(-scores, kind="stable")[:20]}
        expected = scores[items.positions(answer["item_ids"])]
        np.testing.assert_allclose(answer["scores"], expected, atol=1e-5)


def test_ranker_answers_as_the_network_scores(system: Any, raw: list[dict[str, Any]], encoded: TrainingSet) -> None:
    items = ItemTable.load(system.settings.artifacts_dir / "item_table")
    dlrm = Dlrm.load(system.settings.artifacts_dir / "dlrm")
    chosen = np.arange(30)
    ids = [items.item_ids[n] for n in chosen]
    url = f"http://127.0.0.1:{system.settings.ranker_port}/v1/rank"
    assert encoded.histories is not None
    assert dlrm.config.history_length == HISTORY_LENGTH
    histories = EventHistories.gather(*encoded.histories.padded(encoded.timestamp), items.categorical)
    moved = 0.0
    offsets = None
    if dlrm.affinity is not None:
        everywhere = np.tile(chosen, (len(raw), 1))
        affinity, who = dlrm.affinity.over(items), (encoded.user, encoded.context, encoded.histories)
        offsets = row_affinities(affinity, *who, encoded.timestamp, everywhere)

    for number, row in enumerate(raw):
        user = {**user_of(row), "recent": recent_of(number, encoded, items.item_ids)}
        body = {"user": user, "context": context_of(row), "item_ids": [*ids, "no such item"], "k": 30}
        answer = asked(system, url, body)

        one = np.repeat(number, len(chosen))
        rows = (
            np.hstack([encoded.user.categorical[one], items.categorical[chosen], encoded.context.categorical[one]]),
            np.hstack([encoded.user.continuous[one], items.continuous[chosen], encoded.context.continuous[one]]),
            items.image[chosen],
            items.text[chosen],
        )
        offset = None if offsets is None else offsets[number]
        expected = dlrm.predict(*rows, histories, one, offset)
        moved = max(moved, float(np.abs(expected - dlrm.predict(*rows, offset=offset)).max()))
        assert answer["unknown"] == 1
        np.testing.assert_allclose(answer["scores"], np.sort(expected)[::-1], atol=1e-5)
        by_id = dict(zip(answer["item_ids"], answer["scores"], strict=True))
        np.testing.assert_allclose([by_id[item_id] for item_id in ids], expected, atol=1e-5)
    assert moved > 0.01  # histories matter


def test_feast_serves_the_top_category_that_a_row_at_that_moment_would_see(system: Any) -> None:
    """Online features are the point-in-time features of the moment after the last day."""
    from cascade.data.contract import Dataset
    from cascade.features.top_category import top_category_of

    dataset = Dataset(system.settings.dataset_dir)
    base = dataset.days(base_only=True)
    rows = dataset.interactions(base).to_pylist()
    category = dict(zip(*dataset.items().select(["item_id", "category_l1"]).to_pydict().values(), strict=True))
    now = (base[-1].toordinal() - 719_163 + 1) * 86_400
    live = [pq.read_table(path, partitioning=None) for path in dataset.root.glob("interactions/*/live-*.parquet")]
    clicked = {user for table in live for user in table.column("user_id").to_pylist()}
    from cascade.online.user_features import FeastUserFeatures

    # others clicked in tests before this one, and have newer features
    users = sorted({row["user_id"] for row in rows} - clicked)[:SAMPLE]
    assert len(users) == SAMPLE

    async def served() -> dict[str, UserFeatures | None]:
        features = FeastUserFeatures(system.settings.feast_dir / "registry.db", system.settings.redis(), timeout_s=5)
        try:
            return {user: await features.get(user) for user in users}
        finally:
            await features.close()

    online = asyncio.run(served())
    for user in users:
        events = [
            (category[row["item_id"]], row["timestamp"], row["event_type"]) for row in rows if row["user_id"] == user
        ]
        found = online[user]
        assert found is not None
        assert found.top_category == top_category_of(events, now)
