from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.training.calibration import FEWEST_CLICKS
from cascade.training.stacking import MOST, stacking_weight


def clicks(logit: float, score: float, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and scores [R, 6] of which the click, moved to the front, is drawn by the softmax of both, weighed."""
    rng = np.random.default_rng(seed)
    z, s = rng.normal(size=(2, rows, 6)).astype(np.float32)
    odds = logit * z + score * s
    clicked = np.argmax(odds + rng.gumbel(size=odds.shape), axis=1)
    order = np.argsort(np.arange(6) != clicked[:, None], axis=1, kind="stable")
    return np.take_along_axis(z, order, 1), np.take_along_axis(s, order, 1)


def test_the_weight_is_that_of_the_truth() -> None:
    """Clicks by the softmax of z + s/2: of either alone the other would be noise, together their ratio is found."""
    for seed in (0, 1):
        assert abs(stacking_weight(*clicks(1.0, 0.5, 20_000, seed), seed) - 0.5) < 0.05


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_scores_that_say_nothing_have_next_to_no_weight(seed: int) -> None:
    assert stacking_weight(*clicks(1.0, 0.0, 2000, seed), seed) < 0.15


def test_scores_against_the_clicks_are_left_out() -> None:
    assert stacking_weight(*clicks(1.0, -1.0, 2000, 0), 0) == 0.0


def test_a_ranker_that_says_nothing_leaves_it_to_the_scores() -> None:
    weight = stacking_weight(*clicks(0.0, 1.0, 4000, 0), 0)
    assert 5 < weight <= MOST


def test_too_few_clicks_decide_nothing() -> None:
    assert stacking_weight(*clicks(0.0, 1.0, FEWEST_CLICKS - 1, 0), 0) == 0.0
