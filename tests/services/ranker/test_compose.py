from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ranker.compose import (
    Best,
    Drawn,
    Limit,
    MarginalRelevance,
    Rule,
    compose,
    unit_vectors,
)
from services.ranker.rerank import propensities, top_k

RULES = ("best", "drawn", "mmr")
probabilities = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30).map(lambda p: np.array(p, np.float32))


def vectors_of(count: int, seed: int, width: int = 3) -> np.ndarray:
    return unit_vectors(np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32))


def rule_of(name: str, scores: np.ndarray, rng: np.random.Generator) -> Rule:
    if name == "drawn":
        return Drawn(scores, 0.7, rng)
    return MarginalRelevance(scores, vectors_of(len(scores), 0), 0.5) if name == "mmr" else Best(scores)


@given(probabilities, st.integers(1, 40), st.sampled_from(RULES), st.floats(0, 1), st.integers(0, 999), st.data())
def test_k_different_items_with_chances_and_a_seed_repeats_them(
    scores: np.ndarray, k: int, name: str, exploration: float, seed: int, data: st.DataObject
) -> None:
    most = data.draw(st.integers(1, 5))
    limits = [Limit(np.arange(len(scores)) % 3, most), Limit(np.arange(len(scores)) % 7, most)]

    def made() -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        return compose(len(scores), k, rule_of(name, scores, rng), rng, limits=limits, exploration=exploration)

    chosen, chances = made()
    assert len(chosen) == len(set(chosen.tolist())) == min(k, len(scores))
    assert ((chances > 0) & (chances <= 1 + 1e-9)).all()
    assert made()[0].tolist() == chosen.tolist()
    rng = np.random.default_rng(seed)
    longer, _ = compose(len(scores), k + 9, rule_of(name, scores, rng), rng, limits=limits, exploration=exploration)
    assert longer[: len(chosen)].tolist() == chosen.tolist()
    if exploration == 0 and name != "drawn":
        assert chances.tolist() == [1.0] * len(chosen)


@given(probabilities, st.integers(1, 40), st.integers(0, 99))
def test_relevance_alone_is_the_plain_top_k(scores: np.ndarray, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for rule in (Best(scores), MarginalRelevance(scores, vectors_of(len(scores), seed), 1.0)):
        assert compose(len(scores), k, rule, rng)[0].tolist() == top_k(scores, k).tolist()


@given(
    st.lists(st.floats(0.01, 1), min_size=1, max_size=12),
    st.integers(1, 12),
    st.floats(0.05, 1),
    st.integers(0, 99),
)
def test_greedy_marginal_relevance_is_its_definition(scores: list[float], k: int, weight: float, seed: int) -> None:
    given_ = np.array(scores)
    vectors = vectors_of(len(scores), seed)
    chosen, _ = compose(len(scores), k, MarginalRelevance(given_, vectors, weight), np.random.default_rng(0))
    placed: list[int] = []
    for position in chosen.tolist():
        values = {}
        for i in set(range(len(scores))) - set(placed):
            alike = max((float(vectors[i] @ vectors[j]) for j in placed), default=0.0)
            values[i] = weight * scores[i] / max(scores) - (1 - weight) * alike
        assert values[position] >= max(values.values()) - 1e-6  # the dot products are float32
        placed.append(position)


def test_equal_items_are_shown_apart_and_unknown_ones_are_like_nothing() -> None:
    vectors = unit_vectors(np.array([[1, 0], [1, 0], [0, 1], [0, 0]], np.float32))
    scores = np.array([0.9, 0.89, 0.5, 0.4])
    chosen, _ = compose(4, 4, MarginalRelevance(scores, vectors, 0.5), np.random.default_rng(0))
    assert chosen.tolist() == [0, 2, 3, 1]


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=30),
    st.integers(1, 30),
    st.integers(1, 6),
    st.sampled_from(RULES),
    st.sampled_from([0.0, 0.3]),
)
def test_limits_hold_or_are_raised_no_further_than_needed(
    categories: list[int], k: int, most: int, name: str, exploration: float
) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(len(categories)).astype(np.float32)
    limit = Limit(np.array(categories), most)
    chosen, _ = compose(len(scores), k, rule_of(name, scores, rng), rng, limits=[limit], exploration=exploration)
    sizes = Counter(categories)
    needed = most
    while sum(min(size, needed) for size in sizes.values()) < min(k, len(scores)):
        needed += 1
    assert max(Counter(np.array(categories)[chosen].tolist()).values()) <= needed


def test_two_limits_hold_at_once() -> None:
    l1, l2 = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2, 3])
    scores = np.linspace(0.9, 0.4, 6)
    limits = [Limit(l1, 2), Limit(l2, 1)]
    chosen, _ = compose(6, 4, Best(scores), np.random.default_rng(0), limits=limits)
    assert chosen.tolist() == [0, 2, 4, 5]


@pytest.mark.parametrize("exploration", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("name", RULES)
def test_simulated_lists_come_as_often_as_their_propensities_say(name: str, exploration: float) -> None:
    """Over every list there can be: its share of the draws is the product of the chances of its places."""
    scores = np.array([0.6, 0.3, 0.2, 0.05])
    limits = [Limit(np.array([0, 0, 1, 1]), 1)]  # the third place raises it
    rng = np.random.default_rng(5)
    draws, seen, product = 4_000, Counter(), {}
    for _ in range(draws):
        chosen, chances = compose(4, 3, rule_of(name, scores, rng), rng, limits=limits, exploration=exploration)
        seen[tuple(chosen.tolist())] += 1
        product[tuple(chosen.tolist())] = chances.prod()
    assert sum(product.values()) == pytest.approx(1, abs=0.02)  # hardly a list that can come was missed
    for made, expected in product.items():
        assert abs(seen[made] / draws - expected) < 5 * np.sqrt(expected * (1 - expected) / draws) + 1e-9


def test_clicks_weighed_by_propensities_give_the_value_of_another_policy() -> None:
    """What propensities are for: lists explored estimate what the plain top 2 would have got, without bias."""
    scores, truth = np.array([0.5, 0.4, 0.3, 0.2]), np.array([0.1, 0.5, 0.3, 0.2])
    rng = np.random.default_rng(6)
    values = []
    for _ in range(5_000):
        chosen, chances = compose(4, 2, Best(scores), rng, exploration=0.4)
        clicks = rng.random(2) < truth[chosen]
        alike = np.cumprod(chosen == top_k(scores, 2))  # the other policy's chance of this list, place by place
        values.append((clicks * alike / np.cumprod(chances)).sum())
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - truth[:2].sum()) < 4 * error


@settings(max_examples=30)
@given(probabilities, st.floats(0.2, 5), st.integers(0, 99))
def test_a_draw_place_by_place_has_the_chances_of_the_draw_at_once(
    scores: np.ndarray, temperature: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    chosen, chances = compose(len(scores), 10, Drawn(scores, temperature, rng), rng)
    np.testing.assert_allclose(chances, propensities(scores, chosen, temperature), rtol=1e-6)


def test_first_places_of_a_draw_follow_the_weights() -> None:
    scores = np.array([0.6, 0.3, 0.1])
    rng = np.random.default_rng(1)
    lists = Counter(tuple(compose(3, 3, Drawn(scores, 1.0, rng), rng)[0].tolist()) for _ in range(5_000))
    for order in permutations(range(3)):
        expected = scores[order[0]] * scores[order[1]] / (1 - scores[order[0]])
        assert abs(lists[order] / 5_000 - expected) < 5 * np.sqrt(expected * (1 - expected) / 5_000)


def test_unit_vectors_compare_by_the_mean_of_cosines() -> None:
    image, text = (np.random.default_rng(seed).normal(size=(4, 5)).astype(np.float32) for seed in (0, 1))
    image[3] = 0
    vectors = unit_vectors(image, text)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)

    def cosine(rows: np.ndarray) -> float:
        return float(rows[0] @ rows[1] / np.linalg.norm(rows[0]) / np.linalg.norm(rows[1]))

    assert vectors[0] @ vectors[1] == pytest.approx((cosine(image) + cosine(text)) / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda rng: compose(2, 1, Best(np.ones(2)), rng, exploration=1.5), "1.5"),
        (lambda rng: compose(2, 1, Best(np.ones(2)), rng, limits=[Limit(np.zeros(2, int), 0)]), "at least 1"),
        (lambda rng: Drawn(np.ones(2), 0.0, rng), "above 0"),
        (lambda rng: MarginalRelevance(np.ones(2), np.ones((2, 1), np.float32), 2.0), "2.0"),
    ],
)
def test_what_is_out_of_bounds_is_named(make, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(np.random.default_rng(0))
