from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cascade.api.common import Context, UserFeatures
from cascade.api.ranker import Composition, Diversity, RankRequest
from cascade.models.dlrm_scorer import PackedScorer, PlainScorer
from cascade.serving.errors import ModelFault
from cascade.serving.metrics import ServiceMetrics
from cascade.serving.reload import BundleHolder, Loaded
from cascade.store.artifacts import RankerArtifacts
from services.ranker.compose import unit_vectors
from services.ranker.engine import Ranked, RankerEngine, score, warm_up

AT = 1_767_600_000


def request(item_ids: list[str], user_id: str = "u1", k: int = 10, **options: object) -> RankRequest:
    context = Context(device_type=options.pop("device", None), timestamp=options.pop("at", AT))  # type: ignore[arg-type]
    drawing = {name: options.pop(name, None) for name in ("diversity", "composition")}
    user = UserFeatures.model_validate({"user_id": user_id, **options})
    return RankRequest(user=user, context=context, item_ids=item_ids, k=k, **drawing)  # type: ignore[arg-type]


class Held(BundleHolder[RankerArtifacts]):
    """A holder of a bundle that is there already."""

    def __init__(self, bundle: RankerArtifacts) -> None:
        self._loaded = Loaded("v1", "stable", bundle)


@pytest.fixture
def metrics() -> ServiceMetrics:
    return ServiceMetrics("ranker")


@pytest.fixture
def engine(bundle: RankerArtifacts, metrics: ServiceMetrics) -> RankerEngine:
    return RankerEngine(Held(bundle), metrics)


def only(answers: list[Ranked | Exception]) -> Ranked:
    [answer] = answers
    assert isinstance(answer, Ranked)
    return answer


def test_probabilities_are_those_of_the_training_path(bundle: RankerArtifacts) -> None:
    ids = ["i3", "i49", "i0"]
    rows = pa.table(
        {
            "user_id": ["u7"] * 3, "age": [30.0] * 3, "gender": ["F"] * 3, "top_category": ["shoes"] * 3,
            "device_type": ["mobile"] * 3, "timestamp": [AT] * 3,
        }
    )  # fmt: skip
    user, context = bundle.user_transform.transform(rows), bundle.context_transform.transform(rows)
    at = bundle.items.positions(ids)
    expected = bundle.dlrm.predict(
        np.concatenate([user.categorical, bundle.items.categorical[at], context.categorical], axis=1),
        np.concatenate([user.continuous, bundle.items.continuous[at], context.continuous], axis=1),
        bundle.items.image[at],
        bundle.items.text[at],
    )
    [scored] = score(bundle, [request(ids, "u7", age=30, gender="F", top_category="shoes", device="mobile")])
    np.testing.assert_allclose(scored.probabilities, expected, rtol=1e-5)
    assert scored.positions.tolist() == at.tolist()


def test_the_best_k_come_first(engine: RankerEngine) -> None:
    ranked = only(engine.rank([request([f"i{i}" for i in range(30)], k=7)]))
    assert len(ranked.item_ids) == len(ranked.scores) == 7
    assert ranked.scores == sorted(ranked.scores, reverse=True)
    assert all(0 <= probability <= 1 for probability in ranked.scores)
    everything = only(engine.rank([request([f"i{i}" for i in range(30)], k=1000)]))
    assert everything.item_ids[:7] == ranked.item_ids


def test_unknown_ids_are_dropped_and_counted_and_repeats_ranked_once(
    engine: RankerEngine, metrics: ServiceMetrics
) -> None:
    ranked = only(engine.rank([request(["i1", "gone", "i2", "i1", "gone", "I1", "i1 "])]))
    assert sorted(ranked.item_ids) == ["i1", "i2"]
    assert ranked.unknown == 3
    assert metrics.registry.get_sample_value("cascade_unknown_ids_total", {"service": "ranker"}) == 3


def test_nothing_known_is_an_empty_list(engine: RankerEngine) -> None:
    nothing, unknown = engine.rank([request([]), request(["gone"])])
    assert isinstance(nothing, Ranked)
    assert isinstance(unknown, Ranked)
    assert (nothing.item_ids, nothing.unknown) == ([], 0)
    assert (unknown.item_ids, unknown.unknown) == ([], 1)


def test_context_and_user_change_the_scores(engine: RankerEngine) -> None:
    ids = [f"i{i}" for i in range(10)]
    variants = [
        request(ids),
        request(ids, device="mobile"),
        request(ids, at=AT + 12 * 3600),
        request(ids, "new"),
        request(ids, "new", top_category="shoes"),
    ]
    answers = engine.rank(variants)
    assert len({tuple(sorted(answer.scores)) for answer in answers if isinstance(answer, Ranked)}) == len(variants)


def test_a_composed_list_keeps_limits_and_scores_and_is_repeated_by_its_seed(
    engine: RankerEngine, bundle: RankerArtifacts
) -> None:
    ids = [f"i{i}" for i in range(50)]
    plain = dict(zip(*_pairs(only(engine.rank([request(ids, k=50)]))), strict=True))
    wanted = Composition(max_per_category_l1=3, max_per_category_l2=2, exploration=0.5, seed=7)
    first, again = [only(engine.rank([request(ids, k=6, composition=wanted)])) for _ in range(2)]
    assert first == again
    assert first.scores == [plain[item_id] for item_id in first.item_ids]
    assert all(0 < chance < 1 for chance in first.propensities)
    rows = bundle.items.categorical[bundle.items.positions(first.item_ids)]
    assert np.bincount(rows[:, 1]).max() == 3
    assert np.bincount(rows[:, 2]).max() <= 2


def test_relevance_alone_is_the_top_k_and_less_of_it_brings_unlike_items(
    engine: RankerEngine, bundle: RankerArtifacts
) -> None:
    ids = [f"i{i}" for i in range(50)]

    def likeness(item_ids: list[str]) -> float:
        at = bundle.items.positions(item_ids)
        vectors = unit_vectors(bundle.items.image[at], bundle.items.text[at])
        return float((vectors @ vectors.T)[np.triu_indices(len(at), 1)].mean())

    plain = only(engine.rank([request(ids)]))
    whole, half = [
        only(engine.rank([request(ids, composition=Composition(mmr_lambda=weight))])) for weight in (1.0, 0.5)
    ]
    assert whole.item_ids == plain.item_ids
    assert half.propensities == [1.0] * 10
    assert half.item_ids[0] == plain.item_ids[0]
    assert likeness(half.item_ids) < likeness(plain.item_ids)


def test_a_composed_draw_is_possible_and_stands_alone(engine: RankerEngine) -> None:
    ids = [f"i{i}" for i in range(50)]
    drawn = only(engine.rank([request(ids, k=50, composition=Composition(temperature=1.0, seed=1))]))
    assert sorted(drawn.item_ids) == sorted(ids)
    assert drawn.propensities[-1] == 1.0
    with pytest.raises(ValidationError, match="in place of diversity"):
        request(ids, diversity=Diversity(), composition=Composition())
    with pytest.raises(ValidationError, match="give one of them"):
        Composition(mmr_lambda=0.5, temperature=1.0)


def test_diversity_draws_by_seed_and_reports_click_probabilities(engine: RankerEngine) -> None:
    ids = [f"i{i}" for i in range(50)]
    plain = dict(zip(*_pairs(only(engine.rank([request(ids, k=50)]))), strict=True))
    draws = [
        only(engine.rank([request(ids, k=10, diversity=Diversity(temperature=1.0, seed=seed))])) for seed in (1, 1, 2)
    ]
    assert draws[0].item_ids == draws[1].item_ids != draws[2].item_ids
    for item_id, probability in zip(*_pairs(draws[0]), strict=True):
        assert probability == pytest.approx(plain[item_id], rel=1e-5)
    unseeded = {tuple(only(engine.rank([request(ids, diversity=Diversity())])).item_ids) for _ in range(5)}
    assert len(unseeded) > 1


def test_propensities_are_one_unless_the_list_was_drawn(engine: RankerEngine) -> None:
    ids = [f"i{i}" for i in range(20)]
    assert only(engine.rank([request(ids, k=5)])).propensities == [1.0] * 5
    drawn = only(engine.rank([request(ids, k=20, diversity=Diversity(temperature=0.5, seed=3))]))
    weights = np.array(drawn.scores, np.float64) ** 2  # p^(1/T)
    left = weights[::-1].cumsum()[::-1]
    np.testing.assert_allclose(drawn.propensities, weights / left, rtol=1e-5)


def _pairs(ranked: Ranked) -> tuple[list[str], list[float]]:
    return ranked.item_ids, ranked.scores


def test_a_probability_that_is_none_fails_its_request_alone(bundle: RankerArtifacts, engine: RankerEngine) -> None:
    bundle.items.image[bundle.items.positions(["i5"])[0]] = np.nan
    bad, good = engine.rank([request(["i5", "i6"]), request(["i6", "i7"])])
    assert isinstance(bad, ModelFault)
    assert isinstance(good, Ranked)


def test_warming_up_accepts_a_sound_model(bundle: RankerArtifacts) -> None:
    warm_up(bundle)


def test_warming_up_refuses_a_model_that_gives_nan(bundle: RankerArtifacts) -> None:
    with torch.no_grad():
        for parameter in bundle.dlrm.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(ModelFault):
        warm_up(bundle)


requests = st.builds(
    request,
    st.lists(st.sampled_from([*(f"i{i}" for i in range(50)), "gone", "x"]), max_size=20),
    st.sampled_from(["u1", "u9", "new"]),
    st.integers(1, 25),
    age=st.none() | st.integers(0, 130),
    gender=st.sampled_from([None, "F", "x"]),
    top_category=st.sampled_from([None, "shoes", "nothing"]),
    device=st.sampled_from([None, "mobile", "fridge"]),
    at=st.integers(0, 4_102_444_800),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(st.lists(requests, min_size=1, max_size=6))
def test_a_batch_scores_as_each_alone_would(bundle: RankerArtifacts, batch: list[RankRequest]) -> None:
    for asked, together in zip(batch, score(bundle, batch), strict=True):
        [alone] = score(bundle, [asked])
        assert together.positions.tolist() == alone.positions.tolist()
        assert together.unknown == alone.unknown == len(set(asked.item_ids) & {"gone", "x"})
        np.testing.assert_allclose(together.probabilities, alone.probabilities, rtol=1e-4, atol=1e-6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(st.lists(requests, min_size=1, max_size=6))
def test_precomputed_items_change_no_answer(bundle: RankerArtifacts, batch: list[RankRequest]) -> None:
    plain = replace(bundle, precompute_bytes=0)
    assert isinstance(plain.scorer, PlainScorer)
    assert isinstance(bundle.scorer, PackedScorer)
    metrics = ServiceMetrics("ranker")
    answers = [RankerEngine(Held(one), metrics).rank(batch) for one in (bundle, plain)]
    for fast, slow in zip(*answers, strict=True):
        assert isinstance(fast, Ranked)
        assert isinstance(slow, Ranked)
        assert fast.unknown == slow.unknown
        assert fast.item_ids == slow.item_ids
        np.testing.assert_allclose(fast.scores, slow.scores, atol=1e-5)


def test_requests_of_any_kind_with_the_same_names_are_answered(engine: RankerEngine) -> None:
    asked = request(["i1", "i2", "i3"], k=2)
    likeness = SimpleNamespace(
        user=SimpleNamespace(user_id="u1", age=None, gender=None, top_category=None),
        context=SimpleNamespace(device_type=None, timestamp=AT),
        item_ids=asked.item_ids, k=2, diversity=None, composition=None,
    )  # fmt: skip
    assert engine.rank([likeness]) == engine.rank([asked])  # type: ignore[list-item]
