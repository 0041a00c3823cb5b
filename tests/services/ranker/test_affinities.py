"""A ranker with the retrieval model's part in its logits, from a request to the sum."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cascade.api.common import Context, UserFeatures
from cascade.api.explain import AttributionRequest
from cascade.api.ranker import RankRequest
from cascade.features.spec import EVENT_TYPES
from cascade.models.affinity import Affinity
from cascade.models.history import HistoryArrays
from cascade.models.item_to_item import ItemToItem
from cascade.models.two_tower import Mode, TwoTower, TwoTowerConfig
from cascade.serving.reload import Loaded
from cascade.store.artifacts import RankerArtifacts
from services.ranker.engine import score, warm_up
from services.ranker.explain import attribute

AT = 1_767_600_000
IDS = [f"i{n}" for n in range(20)]
RECENT = [f"{AT - 5}|click|i4", f"{AT - 9}|view|gone", f"{AT - 60}|purchase|i5", f"{AT - 90}|not_interested|i6"]
WEIGHT = 0.7


def with_affinity(bundle: RankerArtifacts, mode: Mode) -> RankerArtifacts:
    torch.manual_seed(3)
    sizes = bundle.dlrm.config
    config = TwoTowerConfig(
        sizes.user_cardinalities, 1, sizes.item_cardinalities, 1, normalise=False, item_bias=True, own_vectors=True
    )
    if mode != "static":
        config = replace(config, context_cardinalities=sizes.context_cardinalities, context_continuous=4)
    if mode == "session":
        config = replace(config, history_length=50, history_event_types=len(EVENT_TYPES) + 1, history_sum=True)
    towers = TwoTower(config).eval()
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    weights = np.random.default_rng(4).normal(size=(sizes.item_cardinalities[0],) * 2).astype(np.float32)
    weights[0], weights[:, 0] = 0, 0
    links = ItemToItem(weights).rounded() if mode == "session" else None
    bundle.dlrm.affinity = Affinity(towers, WEIGHT, links, (EVENT_TYPES.index("not_interested") + 1,), votes=3)
    return bundle


def request(recent: list[str], user_id: str = "u7") -> RankRequest:
    user = UserFeatures(user_id=user_id, age=30, gender="F", recent=recent)
    return RankRequest(user=user, context=Context(device_type="mobile", timestamp=AT), item_ids=IDS)


def others_say(bundle: RankerArtifacts) -> np.ndarray:
    """What is added for u7 and each item, by torch, float32 [20], without the ranker's code around it."""
    affinity = bundle.dlrm.affinity
    assert affinity is not None
    user = bundle.user_transform.encode(["u7"], [30], ["F"], [None])
    context = bundle.context_transform.encode(["mobile"], [AT])
    both = user if affinity.towers.config.mode == "static" else user.beside(context)
    items = bundle.items
    vectors = affinity.towers.candidate.predict(items.categorical, items.continuous, items.image, items.text)
    history = None
    if affinity.towers.config.mode == "session":
        kind = {name: n for n, name in enumerate(EVENT_TYPES, start=1)}
        history = HistoryArrays.gather(
            np.array([[4, -1, 5, 6]], np.int32),
            np.array([[kind["click"], kind["view"], kind["purchase"], kind["not_interested"]]], np.int32),
            np.array([[5, 9, 60, 90]]),
            vectors,
        )
    query = affinity.towers.query.predict(both.categorical, both.continuous, history)[0]
    found = WEIGHT * (vectors[items.positions(IDS)] @ query)
    if affinity.item_to_item is not None:
        row = items.categorical[:, 0]  # what was refused says nothing
        found += affinity.item_to_item.weights[np.ix_(row[[4, 5]], row[items.positions(IDS)])].sum(axis=0)
    return np.asarray(found)


@pytest.mark.parametrize("mode", ["static", "context", "session"])
@pytest.mark.parametrize("reads", [False, True])
def test_the_logit_is_the_sum_of_both(
    bundle: RankerArtifacts, reader: RankerArtifacts, mode: Mode, reads: bool
) -> None:
    one = reader if reads else bundle
    [alone] = score(one, [request(RECENT)])
    one = with_affinity(one, mode)
    for served in (replace(one), replace(one, precompute_bytes=0)):
        [both, other] = score(served, [request(RECENT), request([])])
        logit = np.log(alone.probabilities) - np.log1p(-alone.probabilities)
        by_hand = 1 / (1 + np.exp(-(logit + others_say(one))))
        np.testing.assert_allclose(both.probabilities, by_hand, atol=2e-5)
        moved = np.abs(other.probabilities - both.probabilities).max() > 1e-5
        assert moved == (mode == "session" or reads)
        warm_up(served)


def test_it_is_saved_and_loaded_with_the_ranker(reader: RankerArtifacts, tmp_path: Path) -> None:
    with_affinity(reader, "session").save(tmp_path)
    again = RankerArtifacts.load(tmp_path)
    assert again.dlrm.affinity is not None
    assert again.dlrm.affinity.weight == WEIGHT
    one, two = (score(bundle, [request(RECENT)])[0].probabilities for bundle in (reader, again))
    np.testing.assert_array_equal(one, two)


def test_an_explanation_sums_to_it(reader: RankerArtifacts) -> None:
    bundle = with_affinity(reader, "session")
    asked = request(RECENT)
    found = attribute(
        Loaded("v1", "stable", bundle),
        AttributionRequest(user=asked.user, context=asked.context, item_id="i3", liked=[]),
    )
    [scored] = score(bundle, [asked])
    assert 0 < scored.probabilities[3] < 1
    assert found.click_probability == pytest.approx(float(scored.probabilities[3]), abs=1e-5)
    odds = [np.log(p) - np.log1p(-p) for p in (found.click_probability, found.baseline_probability)]
    assert sum(part.logit for part in found.parts) == pytest.approx(odds[0] - odds[1], abs=1e-4)
