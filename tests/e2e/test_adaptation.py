"""Clicks change the next list within a second, for a user the models know and for one that nobody knows.

The tiny shop's 3,000 rows are too few to learn what a top category or the latest clicks mean (the ranker stops after
some 20 steps, and answers alike whatever they are); so this shop's ranker is taught it, and released while everything
runs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from cascade.data.contract import Dataset
from cascade.features.spec import EVENT_TYPE_ROWS
from cascade.models.matches import EventHistories
from cascade.store import ModelStore
from cascade.store.artifacts import RankerArtifacts

pytestmark = pytest.mark.timeout(600)

K = 30
CLICKS = 5
CLICK = EVENT_TYPE_ROWS["click"]
NOON = 1_768_219_200  # 2026-01-12 12:00 UTC


@pytest.fixture(scope="module")
def taught(system: Any, known_user: str) -> Iterator[None]:
    """A ranker that has learned to follow the top category serves while the tests of this file run."""
    store = ModelStore(system.settings.model_store_url)
    usual = store.bundle("ranker", "stable")
    artifacts = RankerArtifacts.load(usual.path)
    teach(artifacts, system.settings.dataset_dir)
    manifest = usual.manifest
    taught = store.write("ranker", artifacts.save, training_days=manifest.training_days, lineage=manifest.lineage)
    release(system, store, taught.version, known_user)
    yield
    release(system, store, usual.version, known_user)


@pytest.mark.parametrize("who", ["known", "new"])
def test_five_clicks_in_a_category_raise_its_share(system: Any, known_user: str, taught: None, who: str) -> None:
    user = known_user if who == "known" else "arrived-just-now"
    before = system.recommend(user, k=K, timestamp=NOON)["items"]
    category, clicked = rare_category(system, before)
    share_before = share(before, category)
    started = time.monotonic()
    for number in range(CLICKS):
        click = {"user_id": user, "item_id": clicked[number % len(clicked)], "device_type": "mobile"}
        system.http.post("/v1/interactions", json=click).raise_for_status()
    last_click = time.monotonic()

    while (after := share(system.recommend(user, k=K, timestamp=NOON)["items"], category)) <= share_before:
        assert time.monotonic() < last_click + 30, f"{category}: {share_before:.0%} before, {after:.0%} after"
        time.sleep(0.02)
    print(
        f"{who} user: share of {category} in {K} items {share_before:.0%} before, {after:.0%} after {CLICKS} clicks, "
        f"{time.monotonic() - last_click:.2f} s after the last ({last_click - started:.2f} s for the clicks)"
    )


def test_the_very_next_request_ranks_by_a_click(system: Any, taught: None) -> None:
    user = "clicked-just-now"
    before = candidates(system, user)
    category, clicked = rare_category(system, [])
    click = {"user_id": user, "item_id": clicked[0], "device_type": "mobile"}
    system.http.post("/v1/interactions", json=click).raise_for_status()
    after = candidates(system, user)  # whatever the worker has done by now

    assert [entry.split("|", 2)[2] for entry in after["user"]["recent"]] == [clicked[0]]
    assert before["user"]["recent"] == []
    chance = [
        {one["item_id"]: one["click_probability"] for one in asked["candidates"] if one["category_l1"] == category}
        for asked in (before, after)
    ]
    both = [item for item in chance[1] if chance[0].get(item) is not None and chance[1][item] is not None]
    assert both
    assert all(chance[1][item] > chance[0][item] for item in both)


def candidates(system: Any, user: str) -> dict[str, Any]:
    """How a list came about."""
    body = {"user_id": user, "k": K, "timestamp": NOON, "explain": True}
    explanation: dict[str, Any] = system.http.post("/v1/recommendations", json=body).json()["explanation"]
    return explanation


def test_a_click_on_a_list_is_written_once_and_a_no_hides_the_item(system: Any) -> None:
    user = "says-no"
    answer = system.recommend(user, timestamp=NOON)
    shown = [item["item_id"] for item in answer["items"]]
    body = {"user_id": user, "item_id": shown[0], "event_type": "not_interested", "request_id": answer["request_id"]}
    event_id = system.http.post("/v1/interactions", json=body).json()["event_id"]
    assert shown[0] not in system.ids(user, timestamp=NOON)

    root = system.settings.dataset_dir
    limit = time.monotonic() + 60
    while not (rows := [row for row in live_rows(root) if row["event_id"] == event_id]):
        assert time.monotonic() < limit
        time.sleep(0.1)
    [row] = rows
    assert (row["user_id"], row["item_id"], row["event_type"]) == (user, shown[0], "not_interested")
    assert row["request_id"] == answer["request_id"]


def test_the_worker_shows_how_fresh_features_are(system: Any) -> None:
    metrics = httpx.get(f"http://127.0.0.1:{system.settings.features_port}/metrics").text
    assert 'cascade_feature_lag_seconds_bucket{le="0.5"}' in metrics


def teach(ranker: RankerArtifacts, dataset: Path) -> None:
    """Train on rows whose label is whether the item is of the category that the user's top category or, where there is
    none, latest events name; nothing else tells them apart."""
    catalog = Dataset(dataset).items()
    by_id = dict(zip(*(catalog.column(name).to_pylist() for name in ("item_id", "category_l1")), strict=True))
    categories = sorted(set(by_id.values()))
    users = ranker.user_transform.encode(
        [None] * (len(categories) + 1), [None] * (len(categories) + 1), [None] * (len(categories) + 1),
        [*categories, None],
    )  # fmt: skip
    context = ranker.context_transform.encode([None], [NOON])
    items, rng = ranker.items, np.random.default_rng(0)
    inside = [np.array([n for n, item in enumerate(items.item_ids) if by_id[item] == one]) for one in categories]
    torch.manual_seed(0)
    torch.set_num_threads(2)
    optimiser = torch.optim.Adam(ranker.dlrm.train().parameters(), lr=3e-3)
    for _ in range(250):
        top, shown = rng.integers(len(categories), size=512), rng.integers(len(items), size=512)
        same = [by_id[items.item_ids[item]] == categories[category] for category, item in zip(top, shown, strict=True)]
        where = np.zeros(512, np.int64)
        met = np.array([rng.choice(inside[category], CLICKS) for category in top], np.int32)
        told = np.where(np.arange(512) % 2, top, len(categories))  # half of them by their latest events
        met[np.arange(CLICKS) >= np.where(told == top, 0, rng.integers(1, CLICKS + 1, 512))[:, None]] = -1
        histories = EventHistories.gather(
            met, np.full(met.shape, CLICK, np.int32), rng.integers(1, 100, met.shape), items.categorical
        )
        categorical = [users.categorical[told], items.categorical[shown], context.categorical[where]]
        continuous = [users.continuous[told], items.continuous[shown], context.continuous[where]]
        logits = ranker.dlrm(
            torch.from_numpy(np.concatenate(categorical, axis=1)),
            torch.from_numpy(np.concatenate(continuous, axis=1)),
            torch.from_numpy(items.image[shown]),
            torch.from_numpy(items.text[shown]),
            histories.tensors(torch.device("cpu")),
        )
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(same, dtype=torch.float32))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    ranker.dlrm.eval()
    assert loss.item() < 0.1, "it did not learn"


def release(system: Any, store: ModelStore, version: str, user: str) -> None:
    """Point the alias at a version and wait until the gateway's answers name it."""
    store.set_alias("ranker", "stable", version)
    limit = time.monotonic() + 60
    while system.recommend(user)["versions"]["ranker"]["version"] != version:
        assert time.monotonic() < limit
        time.sleep(0.1)


def rare_category(system: Any, before: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """Of the categories with the most items outside the list, the rarest in it, and two items outside to click."""
    shown = {item["item_id"] for item in before}
    pages = (system.http.get("/v1/items", params={"limit": 100, "offset": offset}).json() for offset in (0, 100))
    catalog = [item for page in pages for item in page["items"]]
    outside: dict[str, list[str]] = {}
    for item in catalog:
        if item["item_id"] not in shown:
            outside.setdefault(item["category_l1"], []).append(item["item_id"])
    here = Counter(item["category_l1"] for item in before)
    category = max(outside, key=lambda name: (len(outside[name]) - here[name], name))
    return category, outside[category][-2:]


def share(items: list[dict[str, Any]], category: str) -> float:
    return sum(item["category_l1"] == category for item in items) / len(items)


def live_rows(root: Any) -> list[dict[str, Any]]:
    files = [file for file in Dataset(root).interaction_files() if file.name.startswith("live-")]
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
