"""Clicks change the next list within a second, for a user the models know and for one that nobody knows."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from cascade.data.contract import Dataset

pytestmark = pytest.mark.timeout(600)

K = 30
CLICKS = 5
NOON = 1_768_219_200  # 2026-01-12 12:00 UTC


@pytest.mark.parametrize("who", ["known", "new"])
def test_five_clicks_in_a_category_raise_its_share(system: Any, known_user: str, who: str) -> None:
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
