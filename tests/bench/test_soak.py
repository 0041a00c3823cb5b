"""What a soak makes of its samples: growth that goes on is told, what comes and goes is not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.chaos.soak import Sample, growth

MIB = 2**20


def samples(*rss_mib: float, files: list[int] | None = None) -> list[Sample]:
    files = files or [30] * len(rss_mib)
    return [
        Sample(10.0 * number, round(rss * MIB), count)
        for number, (rss, count) in enumerate(zip(rss_mib, files, strict=True))
    ]


def test_what_stays_has_not_grown() -> None:
    found = growth("ranker", samples(*[300.0] * 30))
    assert (found.mib, found.percent, found.mib_an_hour) == (300.0, 0.0, 0.0)


@given(st.floats(50, 5000), st.floats(-20, 20), st.integers(6, 60))
def test_steady_growth_is_told_as_it_is(mib: float, percent: float, count: int) -> None:
    step = mib * percent / 100 / (count - 1)
    found = growth("ranker", samples(*(mib + number * step for number in range(count))))
    assert found.percent == pytest.approx(percent, abs=0.02)
    assert found.mib == pytest.approx(mib, abs=0.1)
    assert found.mib_an_hour == pytest.approx(360 * step, abs=0.02)


def test_a_slow_leak_is_seen_through_noise_and_peaks_are_not_taken_for_one() -> None:
    rng = random.Random(3)  # noqa: S311  (noise)
    noise = [rng.uniform(-2, 2) for _ in range(200)]
    peaks = [40.0 if number % 20 == 19 else 0.0 for number in range(200)]
    leak = [0.05 * number for number in range(200)]
    steady = growth("features", samples(*(300 + n + p for n, p in zip(noise, peaks, strict=True))))
    assert abs(steady.percent) < 0.5
    leaking = growth("features", samples(*(300 + n + p + more for n, p, more in zip(noise, peaks, leak, strict=True))))
    assert leaking.percent == pytest.approx(3.3, abs=0.4)


def test_files_that_go_again_are_no_leak_and_those_that_stay_are() -> None:
    rss = [100.0] * 30
    burst = growth("gateway-1", samples(*rss, files=[30] * 14 + [110] * 3 + [30] * 13))
    assert (burst.files_before, burst.files_after, burst.files_most) == (30, 30, 110)
    leak = growth("gateway-1", samples(*rss, files=list(range(30, 60))))
    assert (leak.files_before, leak.files_after) == (30, 50)


def test_too_few_samples_tell_nothing() -> None:
    with pytest.raises(ValueError, match="5 samples of ranker"):
        growth("ranker", samples(*[1.0] * 5))
