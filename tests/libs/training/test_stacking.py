from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.training.stacking import FEWEST_CLICKS, MOST, stacking_weights


def clicks(factors: list[float], rows: int, seed: int) -> list[np.ndarray]:
    """Logits and scores [R, 6] of which the click, moved to the front, is drawn by the softmax of all, weighed."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(len(factors), rows, 6)).astype(np.float32)
    odds = np.tensordot(factors, parts, 1)
    clicked = np.argmax(odds + rng.gumbel(size=odds.shape), axis=1)
    order = np.argsort(np.arange(6) != clicked[:, None], axis=1, kind="stable")
    return [np.take_along_axis(part, order, 1) for part in parts]


def weight(logit: float, score: float, rows: int, seed: int) -> float:
    z, s = clicks([logit, score], rows, seed)
    [[found]] = stacking_weights(z, [[s]], seed)
    return found


def test_the_weight_is_that_of_the_truth() -> None:
    """Clicks by the softmax of z + s/2: of either alone the other would be noise, together their ratio is found."""
    for seed in (0, 1):
        assert abs(weight(1.0, 0.5, 20_000, seed) - 0.5) < 0.05


def test_the_scale_of_a_score_is_taken_up_by_its_weight() -> None:
    z, s, t = clicks([1.0, 0.5, 0.25], 20_000, 0)
    [[one], [other]] = stacking_weights(z, [[s * 100], [t / 100]], 0)
    assert one == pytest.approx(0.005, rel=0.1)
    assert other == pytest.approx(25, rel=0.2)


def test_groups_are_taken_one_after_another() -> None:
    z, s, t, noise = clicks([1.0, 0.5, 0.5, 0.0], 20_000, 0)
    [[of_s], [of_t, of_s_again], [of_noise]] = stacking_weights(z, [[s], [t, s], [noise]], 0)
    assert of_s + of_s_again == pytest.approx(0.5, abs=0.05)
    assert of_t == pytest.approx(0.5, abs=0.05)
    assert of_noise < 0.05


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_scores_that_say_nothing_have_next_to_no_weight(seed: int) -> None:
    assert weight(1.0, 0.0, 2000, seed) < 0.15


def test_scores_against_the_clicks_are_left_out() -> None:
    assert weight(1.0, -1.0, 2000, 0) == 0.0


def test_a_ranker_that_says_nothing_leaves_it_to_the_scores() -> None:
    assert 5 < weight(0.0, 1.0, 4000, 0) <= MOST * 1.1
    z, s, t = clicks([0.0, 1.0, 0.5], 4000, 0)
    [[of_s], [of_t]] = stacking_weights(z, [[s], [t]], 0)
    assert of_s / of_t == pytest.approx(2, rel=0.2)  # bounded together: their ratio stays


def test_too_few_clicks_decide_nothing() -> None:
    assert weight(0.0, 1.0, FEWEST_CLICKS - 1, 0) == 0.0
