from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from cascade.training import calibration
from cascade.training.calibration import calibrate, fit_isotonic, fit_temperature
from cascade.training.metrics import calibration_error

K = 5


def clicks(bend, count: int, seed: int = 0) -> np.ndarray:
    """Logits [R, 1 + K], the click first, such that bend(logit) + constant is the true log-odds of a click."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(-1, 2, (12 * count, 1))
    true = expit(bend(drawn))
    clicked = drawn[rng.random(drawn.shape) < true]
    missed = drawn[rng.random(drawn.shape) >= true]
    # Taking K negatives a click, however many there are, is the constant.
    rows = min(len(clicked), len(missed) // K)
    return np.concatenate([clicked[:rows, None], missed[: rows * K].reshape(rows, K)], axis=1)


def error(logits: np.ndarray) -> float:
    labels = np.zeros(logits.shape, bool)
    labels[:, 0] = True
    return calibration_error(labels.ravel(), expit(logits.astype(np.float64)).ravel())


def line(x: np.ndarray) -> np.ndarray:
    return 0.5 * x - 1


def steps(x: np.ndarray) -> np.ndarray:
    return np.where(x < -1, -3.0, np.where(x < 1, -1.5, 2.0)) + 0.1 * x


@pytest.mark.parametrize(("bend", "kind"), [(line, "temperature"), (steps, "isotonic")])
def test_the_richer_is_taken_where_it_is_needed(monkeypatch, bend, kind: str) -> None:
    held_out, later = clicks(bend, 4000), clicks(bend, 4000, 1).astype(np.float32)
    monkeypatch.setattr(calibration, "click_logits", lambda *_: held_out.astype(np.float32))
    found, report = calibrate(None, None, None, K, 0)  # type: ignore[arg-type]
    assert found.kind == report.kind == kind
    assert min(report.losses, key=lambda one: report.losses[one]) == kind
    assert report.error_after < report.error_before
    assert error(found.of(later)) < 0.02 < error(later)


def test_what_holds_already_and_what_is_too_little_are_left_alone(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    positive = rng.normal(0.5, 1, (2000, 1))
    logits = np.concatenate([positive, rng.normal(-0.5, 1, (2000, K))], axis=1) - np.log(K)
    monkeypatch.setattr(calibration, "click_logits", lambda *_: logits.astype(np.float32))
    assert calibrate(None, None, None, K, 0)[0].kind == "none"  # type: ignore[arg-type]
    monkeypatch.setattr(calibration, "click_logits", lambda *_: (3 * logits[:50]).astype(np.float32))
    assert calibrate(None, None, None, K, 0)[0].kind == "none"  # type: ignore[arg-type]


@settings(deadline=None)  # scipy is imported by the first
@given(st.integers(1, 60), st.integers(0, 99), st.sampled_from([0.0, 0.3, 3.0]))
def test_whatever_is_fitted_rises(rows: int, seed: int, spread: float) -> None:
    logits = np.random.default_rng(seed).normal(0, spread, (rows, 1 + K))
    for fit in (fit_isotonic, fit_temperature):
        found = fit(logits).of(np.linspace(-9, 9, 50).astype(np.float32))
        assert np.isfinite(found).all()
        assert (np.diff(found) >= 0).all()


def test_levels_of_no_click_and_of_nothing_else_are_finite() -> None:
    logits = np.concatenate([np.full((50, 1), 4.0), np.full((50, K), -4.0)], axis=1)
    found = fit_isotonic(logits)
    assert found.of(np.array([-4, 4], np.float32))[0] < 0 < found.of(np.array([-4, 4], np.float32))[1]
