"""What a click probability is made of: sums, limits, and the route."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.api.common import Context, UserFeatures
from cascade.api.explain import PARTS, AttributionRequest, AttributionResponse
from cascade.api.ranker import RankRequest
from cascade.serving.errors import UnknownItem
from cascade.serving.reload import Loaded
from cascade.store.artifacts import RankerArtifacts
from services.ranker.app import create_app
from services.ranker.engine import score
from services.ranker.explain import attribute, compare, shapley
from services.ranker.settings import RankerSettings

USER = UserFeatures(user_id="u3", age=30, gender="F", top_category="shoes")
MOMENT = Context(device_type="mobile", timestamp=1_767_600_000)


def log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def asked(bundle: RankerArtifacts, **fields: Any) -> AttributionResponse:
    request = AttributionRequest(**{"user": USER, "context": MOMENT, "item_id": "i7", **fields})
    return attribute(Loaded("v1", "stable", bundle), request)


def test_parts_sum_to_the_score_that_is_served(bundle: RankerArtifacts) -> None:
    found = asked(bundle)

    (served,) = score(bundle, [RankRequest(user=USER, context=MOMENT, item_ids=["i7"])])
    assert found.click_probability == pytest.approx(float(served.probabilities[0]), abs=1e-6)
    assert [one.part for one in found.parts] == list(PARTS)
    difference = log_odds(found.click_probability) - log_odds(found.baseline_probability)
    assert sum(one.logit for one in found.parts) == pytest.approx(difference, abs=1e-6)
    assert sum(one.share for one in found.parts) == pytest.approx(1)


def test_a_part_that_is_unknown_anyway_adds_nothing(bundle: RankerArtifacts) -> None:
    stranger = asked(bundle, user=UserFeatures(user_id="nobody"))

    by_part = {one.part: one for one in stranger.parts}
    assert by_part["user"].logit == pytest.approx(0, abs=1e-6)
    assert by_part["user"].without == pytest.approx(stranger.click_probability)
    assert by_part["item"].logit != 0


def test_an_item_that_the_bundle_does_not_hold(bundle: RankerArtifacts) -> None:
    with pytest.raises(UnknownItem, match="'gone'"):
        asked(bundle, item_id="gone")


def test_liked_items_are_compared_and_strangers_left_out(bundle: RankerArtifacts) -> None:
    items = bundle.items
    items.image[8], items.text[8] = items.image[7], items.text[7]
    items.image[9] = 0  # no picture

    found = compare(items, 7, ["i9", "gone", "i8", "i7", "i8"])

    assert [one.item_id for one in found] == ["i8", "i9"]
    assert found[0].similarity == pytest.approx(1)
    assert found[1].image_similarity == 0
    assert compare(items, 7, []) == []


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=8, max_size=8))
def test_shapley_values_are_averages_over_orders(values: list[float]) -> None:
    game = np.array(values)
    expected = np.zeros(3)
    for order in itertools.permutations(range(3)):
        subset = 0
        for player in order:
            expected[player] += game[subset | 1 << player] - game[subset]
            subset |= 1 << player

    assert shapley(game) == pytest.approx(expected / 6, abs=1e-9)


async def test_the_route(publish: Callable[[int], str], open_app: Any, tmp_path: Path) -> None:
    body = {"user": USER.model_dump(), "context": MOMENT.model_dump(), "item_id": "i7", "liked": ["i1", "i2"]}
    async with open_app(create_app(RankerSettings(model_store=str(tmp_path / "models")))) as client:
        assert (await client.post("/v1/attribution", json=body)).status_code == 503
    version = publish(0)
    async with open_app(create_app(RankerSettings(model_store=str(tmp_path / "models")))) as client:
        answer = AttributionResponse.model_validate_json((await client.post("/v1/attribution", json=body)).content)
        assert (answer.version, len(answer.liked)) == (version, 2)
        canary = await client.post("/v1/attribution", json={**body, "track": "canary"})
        assert (canary.json()["version"], canary.json()["track"]) == (version, "stable"), "there is no canary"
        gone = await client.post("/v1/attribution", json={**body, "item_id": "gone"})
        assert (gone.status_code, gone.json()["type"]) == (404, "urn:cascade:problem:unknown-item")
