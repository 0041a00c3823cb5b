from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.features.standardiser import Standardiser, known_between

sane = st.floats(0, 1e6)


@given(st.lists(st.one_of(st.just(math.nan), sane), max_size=50))
def test_standardised_training_values_have_mean_0_and_deviation_1_or_0(values: list[float]) -> None:
    array = np.array(values, np.float64)
    fitted = Standardiser.fit(array)
    scaled = fitted.scale(fitted.fill(array))
    assert np.isfinite(scaled).all()
    assert (scaled[np.isnan(array)] == 0).all()
    known = scaled[~np.isnan(array)].astype(np.float64)
    if len(known):
        assert known.mean() == pytest.approx(0, abs=1e-4)
        assert known.std() == pytest.approx(1, abs=1e-4) or known.std() < 1e-2


def test_only_the_range_is_known() -> None:
    values = np.array([-1, 0, 5, 10, 11, math.nan, math.inf, -math.inf])
    assert np.isnan(known_between(values, 0, 10)).tolist() == [True, False, False, False] + [True] * 4
