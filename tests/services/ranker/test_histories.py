"""A ranker that reads what visitors did lately: from the text of a request to the network's numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cascade.api.common import Context, UserFeatures
from cascade.api.explain import PARTS, AttributionRequest
from cascade.api.ranker import RankRequest
from cascade.features.spec import EVENT_TYPES
from cascade.models.matches import EventHistories
from cascade.serving.reload import Loaded
from cascade.store.artifacts import RankerArtifacts
from services.ranker.engine import score, warm_up
from services.ranker.explain import attribute

AT = 1_767_600_000
IDS = [f"i{n}" for n in range(20)]
RECENT = [
    f"{AT}|click|i4", f"{AT - 3}|purchase|gone", "no entry", f"{AT - 60}|not_interested|i5", f"{AT - 900}|wished|i6",
    *(f"{AT - 1000 - n}|view|i{n}" for n in range(12)),
]  # fmt: skip


def request(recent: list[str], ids: list[str] = IDS, user_id: str = "u7") -> RankRequest:
    user = UserFeatures(user_id=user_id, age=30, gender="F", recent=recent)
    return RankRequest(user=user, context=Context(device_type="mobile", timestamp=AT), item_ids=ids)


def predicted(bundle: RankerArtifacts, histories: EventHistories) -> np.ndarray:
    user = bundle.user_transform.encode(["u7"], [30], ["F"], [None])
    context = bundle.context_transform.encode(["mobile"], [AT])
    at, one = bundle.items.positions(IDS), np.zeros(len(IDS), np.int64)
    return bundle.dlrm.predict(
        np.concatenate([user.categorical[one], bundle.items.categorical[at], context.categorical[one]], axis=1),
        np.concatenate([user.continuous[one], bundle.items.continuous[at], context.continuous[one]], axis=1),
        bundle.items.image[at],
        bundle.items.text[at],
        histories,
        one,
    )


def test_probabilities_are_those_of_the_network_over_the_newest_events(reader: RankerArtifacts) -> None:
    items = np.array([[4, -1, -1, 5, 6, 0, 1, 2, 3, 4]], np.int32)  # ten of them, some gone
    kind = {name: n for n, name in enumerate(EVENT_TYPES, start=1)}
    types = np.array([[kind["click"], 0, 0, kind["not_interested"], 0, *[kind["view"]] * 5]], np.int32)
    ages = np.array([[1, 3, 1, 60, 900, 1000, 1001, 1002, 1003, 1004]])  # of this very second: one second old
    wanted = predicted(reader, EventHistories.gather(items, types, ages, reader.items.categorical))
    for bundle in (reader, replace(reader, precompute_bytes=0)):
        answers = score(bundle, [request([]), request(RECENT), request(RECENT[:1])])
        np.testing.assert_allclose(answers[1].probabilities, wanted, rtol=1e-5)
        np.testing.assert_allclose(answers[0].probabilities, predicted(bundle, EventHistories.empty(1, 4)), rtol=1e-5)
        assert np.abs(answers[2].probabilities - answers[0].probabilities).max() > 1e-5


def test_a_ranker_that_reads_none_leaves_them_be(bundle: RankerArtifacts) -> None:
    with_them, without = score(bundle, [request(RECENT), request([])])
    np.testing.assert_array_equal(with_them.probabilities, without.probabilities)


def test_what_is_like_the_last_click_rises(reader: RankerArtifacts) -> None:
    """With a network that counts what category an item shares with the history, as training finds it."""
    pairs = reader.dlrm.over[0].in_features - reader.dlrm.config.matches
    with torch.no_grad():
        # the first hidden unit counts what category_l1 shares with the history, and goes up to the logit
        for layer in (0, 2, 4):
            reader.dlrm.over[layer].weight[0] = 0
        reader.dlrm.over[0].weight[0, pairs + 10] = 5
        for layer in (2, 4, 6):
            reader.dlrm.over[layer].weight[0, 0] = 1
    before, after = score(reader, [request([], user_id="new"), request([f"{AT - 5}|click|i0"], user_id="new")])
    rise = after.probabilities - before.probabilities
    shoes = reader.items.categorical[after.positions, 1] == reader.items.categorical[0, 1]
    assert 0 < shoes.sum() < len(shoes)
    assert rise[shoes].min() > 0.05 > rise[~shoes].max()


def test_a_warm_up_reads_an_event(reader: RankerArtifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[EventHistories] = []
    scorer = reader.scorer
    real = scorer.score
    monkeypatch.setattr(scorer, "score", lambda *inputs: seen.append(inputs[5]) or real(*inputs))
    warm_up(reader)
    assert [histories.there.tolist() for histories in seen] == [[[True]]]


def test_the_history_is_part_of_the_user_in_an_explanation(reader: RankerArtifacts) -> None:
    with torch.no_grad():
        reader.dlrm.over[0].weight[:, -42:] *= 20
    found = [
        attribute(
            Loaded("v1", "stable", reader),
            AttributionRequest(user=asked.user, context=asked.context, item_id="i3"),
        )
        for asked in (request(RECENT), request([]))
    ]
    (served,) = score(reader, [request(RECENT, ["i3"])])
    assert found[0].click_probability == pytest.approx(float(served.probabilities[0]), abs=1e-6)
    user = PARTS.index("user")
    assert found[0].baseline_probability == found[1].baseline_probability
    assert found[0].parts[user].without == pytest.approx(found[1].parts[user].without)
    assert found[0].parts[user].logit != pytest.approx(found[1].parts[user].logit, abs=1e-4)
