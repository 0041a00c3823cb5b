"""Which calibration makes a ranker's probabilities hold, fitted on rows that it did not learn from.

Three candidates: none, a temperature with a shift (Platt 1999), and isotonic regression, centred so that it rises
between its levels (Oron and Flournoy 2017). They are judged crosswise: fitted on one half of the clicks, by their loss
on the other half. A richer one is taken only where it is better by more than the standard error of the difference, and
then fitted on all.

Shapes: R clicks, each with its K negatives beside it: logits and labels [R, 1 + K], the click first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize  # type: ignore[import-untyped]
from scipy.special import expit, logit  # type: ignore[import-untyped]

from cascade.features.item_table import ItemTable
from cascade.features.training_set import TrainingSet
from cascade.models.calibration import Calibration
from cascade.models.dlrm import Dlrm
from cascade.training.histories import ranker_histories
from cascade.training.loop import CalibrationReport
from cascade.training.metrics import calibration_error
from cascade.training.negatives import UniformNegatives

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

LEVELS = 200
"""at most so many groups of rows that isotonic regression sees, each of as many"""
FEWEST_CLICKS = 200
"""with fewer held out, nothing is fitted"""
_LOG_SCALE_AND_SHIFT = [(-6, 3), (-10, 10)]
"""bounds: others' scores may make a logit twenty times as large as it was (`stacking.MOST`)"""
_CHUNK = 2048


def calibrate(
    model: Dlrm, rows: TrainingSet, items: ItemTable, negatives: int, seed: int, offsets: Floats | None = None
) -> tuple[Calibration, CalibrationReport]:
    """The calibration of this model by these clicks, each with uniform negatives. The model is left as it is.

    offsets: float32 [R, 1 + K], what an affinity adds to the logits of `negatives_of_clicks`
    """
    logits = click_logits(model, rows, items, negatives, seed)
    if offsets is not None:
        logits += offsets
    chosen, losses = "none", {}
    if len(logits) >= FEWEST_CLICKS:
        least = _losses(logits)
        losses["none"] = float(least.mean())
        halves = np.random.default_rng(seed).permutation(len(logits)) % 2
        for kind, fit in list(_FITS.items())[1:]:
            each = np.empty(len(logits))
            for half in (0, 1):
                fitted = fit(logits[halves == half].astype(np.float64))
                each[halves != half] = _losses(fitted.of(logits[halves != half]))
            losses[kind] = float(each.mean())
            gain = least - each
            if gain.mean() > gain.std() / np.sqrt(len(gain)):
                chosen, least = kind, each
    found = _FITS[chosen](logits.astype(np.float64))
    before, after = (_error(one) for one in (logits, found.of(logits)))
    return found, CalibrationReport(found.kind, len(logits), losses, before, after)


def negatives_of_clicks(rows: TrainingSet, items: ItemTable, negatives: int, seed: int) -> NDArray[np.int64]:
    """The items of clicks and their uniform negatives, int64 [R, 1 + K]."""
    positives = rows.item_position.astype(np.int64)
    drawn = UniformNegatives().draw(positives, negatives, len(items), np.random.default_rng(seed))
    return np.concatenate([positives[:, None], drawn.items], axis=1)


def click_logits(model: Dlrm, rows: TrainingSet, items: ItemTable, negatives: int, seed: int) -> Floats:
    """Logits of clicks and of their uniform negatives, float32 [R, 1 + K], as the network gives them."""
    return logits_of(model, rows, items, negatives_of_clicks(rows, items, negatives, seed))


def logits_of(model: Dlrm, rows: TrainingSet, items: ItemTable, positions: NDArray[np.int64]) -> Floats:
    """Logits of these items of each row [R, N], float32 [R, N], as the network gives them."""
    found = np.empty(positions.shape, np.float32)
    rows_at_once = max(1, _CHUNK * 6 // max(1, positions.shape[1]))
    for start in range(0, len(rows), rows_at_once):
        part = positions[start : start + rows_at_once]
        at, item = np.repeat(np.arange(start, start + len(part)), part.shape[1]), part.ravel()
        user, context = rows.user.take(at), rows.context.take(at)
        mine = slice(start, start + len(part))
        of_rows = None if rows.histories is None else rows.histories.take(mine)
        logits = model.logits(
            np.concatenate([user.categorical, items.categorical[item], context.categorical], axis=1),
            np.concatenate([user.continuous, items.continuous[item], context.continuous], axis=1),
            items.image[item],
            items.text[item],
            ranker_histories(model.config, of_rows, rows.timestamp[mine], items),
            at - start,
        )
        found[start : start + len(part)] = logits.reshape(part.shape)
    return found


def fit_temperature(logits: Doubles) -> Calibration:
    """The slope and shift of the least loss on float64 [R, 1 + K]."""
    flat, labels = logits.ravel(), _labels(logits).ravel()

    def loss(parameters: Doubles) -> tuple[float, Doubles]:
        scale = np.exp(parameters[0])
        calibrated = scale * flat + parameters[1]
        residual = expit(calibrated) - labels
        value = np.mean(np.logaddexp(0, calibrated) - labels * calibrated)
        return float(value), np.array([np.mean(residual * flat) * scale, np.mean(residual)])

    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=_LOG_SCALE_AND_SHIFT)
    return Calibration.temperature(float(np.exp(found.x[0])), float(found.x[1]))


def fit_isotonic(logits: Doubles) -> Calibration:
    """The rising levels of the least loss on float64 [R, 1 + K], a knot in the middle of each."""
    order = np.argsort(logits.ravel(), kind="stable")
    flat, labels = logits.ravel()[order], _labels(logits).ravel()[order]
    groups = np.array_split(np.arange(len(flat)), min(LEVELS, len(flat)))
    sizes = np.array([len(group) for group in groups], np.float64)
    middles = np.array([flat[group].mean() for group in groups])
    shares = np.array([labels[group].mean() for group in groups])
    fitted = isotonic_regression(shares, weights=sizes)
    starts = fitted.blocks[:-1]
    weight = np.add.reduceat(sizes, starts)
    places, levels = np.add.reduceat(sizes * middles, starts) / weight, fitted.x[starts]
    # A level of no click, or of nothing else, would be minus or plus infinity: half a row is added.
    if levels[0] <= 0:
        levels[0] = min(0.5 / weight[0], levels[1] / 2 if len(levels) > 1 else 0.5)
    if levels[-1] >= 1:
        levels[-1] = max(1 - 0.5 / weight[-1], (1 + levels[-2]) / 2 if len(levels) > 1 else 0.5)
    rising = np.append(True, np.diff(places) > 1e-4)  # closer ones would be one knot in float32
    return Calibration(
        "isotonic", tuple(map(float, places[rising])), tuple(map(float, logit(levels[rising]))), 1.0, 1.0
    )


def _nothing(_logits: Doubles) -> Calibration:
    return Calibration()


_FITS: dict[str, Callable[[Doubles], Calibration]] = {
    "none": _nothing,
    "temperature": fit_temperature,
    "isotonic": fit_isotonic,
}


def _labels(logits: NDArray[np.floating]) -> Doubles:
    labels = np.zeros(logits.shape)
    labels[:, 0] = 1.0
    return labels


def _losses(logits: Floats) -> Doubles:
    """The log-loss of each click with its negatives, float64 [R]."""
    exact = logits.astype(np.float64)
    losses: Doubles = np.mean(np.logaddexp(0, exact) - _labels(logits) * exact, axis=1)
    return losses


def _error(logits: Floats) -> float:
    if not len(logits):
        return 0.0
    return calibration_error(_labels(logits).ravel().astype(bool), expit(logits.astype(np.float64)).ravel())
