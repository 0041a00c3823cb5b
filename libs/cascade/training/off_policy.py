"""What a candidate release's lists would have earned, from the log of another release's lists.

The log says what was shown, with which chance, and what was clicked. A list that the candidate would show more often
counts for more, one that it would show less often for less. The value is the expected number of clicks a list.

Assumptions, all stated in the result:
    cascade       a click depends on the visitor, the item, its position and the items above it, not on those below.
                  Position k weighs by the product of the ratios of positions 1 to k (McInerney et al. 2020).
    independent   a click depends on the visitor, the item and the position alone. Position k weighs by its own ratio.
                  Exact where draws of different positions do not depend on each other; where items are drawn without
                  replacement, as in re-ranking, the candidate is credited with its draw after the logged items above.
    Both          the log's propensities are true, every list that the candidate may show could have been logged
                  (support), and visitors are independent of each other.

Estimators (Dudík, Langford and Li 2011; Swaminathan and Joachims 2015):
    IPS           mean of weight × click: unbiased, and of large variance where the two releases differ
    SNIPS         the same over the sum of weights: slightly biased, bounded, mostly of less variance
    DR            doubly robust: a model of the click stands for what the log does not show, and the weights correct
                  the model where the log does show: unbiased if either is right

Shapes: N lists, K positions, I items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm  # type: ignore[import-untyped]

from cascade.training.errors import EvaluationError

Doubles = NDArray[np.float64]
Assumption = Literal["cascade", "independent"]
ASSUMPTIONS: tuple[Assumption, ...] = ("cascade", "independent")

LEVEL = 0.95
LEAST_EFFECTIVE = 30
"""Effective lists below which an interval by the normal distribution is not to be believed."""


@dataclass(frozen=True)
class Log:
    """Lists as they were shown, and what the candidate makes of them.

    clicked: float64 [N, K], 0 or 1; NaN behind the end of a shorter list
    logged: float64 [N, K], the chance of each item at its position given the items above, by the release that showed it
    target: float64 [N, K], likewise by the candidate
    user: int [N], whose lists are no independent witnesses of each other
    predicted: float64 [N, K], what the click model says of the shown item; None without a model
    expected: float64 [N, K], what it says on average of the candidate's draw at this position, given the items above
    """

    clicked: Doubles
    logged: Doubles
    target: Doubles
    user: NDArray[np.integer]
    predicted: Doubles | None = None
    expected: Doubles | None = None

    def __post_init__(self) -> None:
        arrays = {"logged": self.logged, "target": self.target, "predicted": self.predicted, "expected": self.expected}
        for name, array in arrays.items():
            if array is not None and array.shape != self.clicked.shape:
                raise EvaluationError(f"{name} has shape {array.shape}, clicked {self.clicked.shape}; give [N, K] each")
        if self.clicked.ndim != 2 or len(self.user) != len(self.clicked) or not len(self.clicked):
            raise EvaluationError(f"{len(self.user)} users for {len(self.clicked)} lists; give one each, one at least")
        shown = ~np.isnan(self.clicked)
        if (self.logged[shown] <= 0).any():
            count = int((self.logged[shown] <= 0).sum())
            raise EvaluationError(
                f"{count} shown items have a propensity of 0, so they cannot have been shown; log true propensities"
            )


@dataclass(frozen=True)
class Estimate:
    """Clicks a list, with the interval in which the truth lies at `level`.

    effective: lists that as much evenly weighted evidence would come from (Kish 1965), at the last position
    """

    estimator: str
    assumption: Assumption
    value: float
    low: float
    high: float
    level: float
    lists: int
    effective: float

    @property
    def trusted(self) -> bool:
        """Whether there is evidence enough for the interval's normal distribution."""
        return self.effective >= LEAST_EFFECTIVE


def estimate(log: Log, *, assumption: Assumption = "cascade", level: float = LEVEL) -> dict[str, Estimate]:
    """IPS, SNIPS and, with a click model, DR.

    Intervals are normal, from the variance between users; SNIPS by the delta method.
    Raises EvaluationError on an unknown assumption, or where fewer than two users stand in the log.
    """
    if assumption not in ASSUMPTIONS:
        raise EvaluationError(f"assumption {assumption!r} is unknown; take one of {', '.join(ASSUMPTIONS)}")
    _, user = np.unique(log.user, return_inverse=True)
    users = int(user.max()) + 1
    if users < 2:
        raise EvaluationError("the log holds the lists of one user; an interval needs two or more")
    shown = ~np.isnan(log.clicked)
    ratio = np.where(shown, log.target / np.where(shown, log.logged, 1.0), 1.0).astype(np.float64)
    product = np.asarray(np.cumprod(ratio, axis=1) if assumption == "cascade" else ratio, np.float64)
    before: Doubles = np.where(shown, _before(product) if assumption == "cascade" else 1.0, 0.0)
    weight: Doubles = np.where(shown, product, 0.0)
    clicked = np.where(shown, log.clicked, 0.0)
    effective = _effective(weight, shown)
    earned = (weight * clicked).sum(axis=1)  # [N]
    found = {"IPS": _mean(earned, user, users, level)}
    found["SNIPS"] = _self_normalised(weight, clicked, shown, user, users, level)
    if log.predicted is not None and log.expected is not None:
        predicted, expected = np.where(shown, log.predicted, 0.0), np.where(shown, log.expected, 0.0)
        robust = (before * expected + weight * (clicked - predicted)).sum(axis=1)
        found["DR"] = _mean(robust, user, users, level)
    return {
        name: Estimate(name, assumption, *numbers, level, len(earned), effective) for name, numbers in found.items()
    }


def plackett_luce(log_weights: Doubles, drawn: NDArray[np.integer]) -> Doubles:
    """The chance of each draw without replacement given those before it, float64 [N, K].

    log_weights: [N, I], -inf for an item that cannot be drawn; drawn: int [N, K], -1 for an item that is none of these,
    which has a chance of 0 and takes none from the others
    """
    chances = np.empty(drawn.shape)
    left = log_weights.astype(np.float64).copy()
    rows = np.arange(len(drawn))
    for k in range(drawn.shape[1]):
        at = np.maximum(drawn[:, k], 0)
        there = (drawn[:, k] >= 0) & np.isfinite(left[rows, at])
        total = np.logaddexp.reduce(left, axis=1)
        chances[:, k] = np.where(there, np.exp(np.where(there, left[rows, at] - total, 0.0)), 0.0)
        left[rows[there], at[there]] = -np.inf
    return chances


def plackett_luce_mean(log_weights: Doubles, drawn: NDArray[np.integer], values: Doubles) -> Doubles:
    """What each draw gives on average, given the draws before it, float64 [N, K].

    log_weights, drawn: as for `plackett_luce`; values: [N, I] of each item
    """
    means = np.empty(drawn.shape)
    left = log_weights.astype(np.float64).copy()
    rows = np.arange(len(drawn))
    for k in range(drawn.shape[1]):
        top = left.max(axis=1, keepdims=True)
        weights = np.exp(left - np.where(np.isfinite(top), top, 0.0))
        means[:, k] = (weights * values).sum(axis=1) / np.maximum(weights.sum(axis=1), np.finfo(float).tiny)
        there = drawn[:, k] >= 0
        left[rows[there], drawn[there, k]] = -np.inf
    return means


class ClickModel:
    """The chance of a click from the ranker's probability and the position: a logistic regression on the log.

    Features: the logit of the probability, and log(1 + position). Fitted on some users and asked about others, so that
    it has seen none of the clicks that it is corrected with.
    """

    def __init__(self, probability: Doubles, position: NDArray[np.integer], clicked: NDArray[Any]) -> None:
        """[M] each, of shown items."""
        from sklearn.linear_model import LogisticRegression

        self._share = float(np.mean(clicked))
        self._fit = None
        if 0 < self._share < 1:
            self._fit = LogisticRegression(C=1.0).fit(self._features(probability, position), clicked.astype(int))

    def predict(self, probability: Doubles, position: NDArray[np.integer] | int) -> Doubles:
        """The chance of a click, float64 in the shape of `probability`."""
        if self._fit is None:  # all were clicked, or none
            return np.full(probability.shape, self._share)
        where = np.broadcast_to(position, probability.shape)
        chances = self._fit.predict_proba(self._features(probability.ravel(), where.ravel()))[:, 1]
        return np.asarray(chances, np.float64).reshape(probability.shape)

    @staticmethod
    def _features(probability: Doubles, position: NDArray[np.integer]) -> Doubles:
        p = np.clip(probability, 1e-6, 1 - 1e-6)
        return np.stack([np.log(p) - np.log1p(-p), np.log1p(position)], axis=1)


def folds(user: NDArray[np.integer], seed: int) -> NDArray[np.bool_]:
    """Half of the users at random, as rows, bool [N]."""
    _, codes = np.unique(user, return_inverse=True)
    half = np.random.default_rng(seed).permutation(int(codes.max()) + 1) % 2 == 0
    chosen: NDArray[np.bool_] = half[codes]
    return chosen


def to_markdown(estimates: Sequence[Estimate]) -> str:
    """A table, a row an estimate."""
    lines = [
        "| estimator | assumption | clicks a list | interval | lists | effective |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one.estimator} | {one.assumption} | {one.value:.4f} | {one.low:.4f} to {one.high:.4f} "
        f"({one.level:.0%}) | {one.lists:,} | {one.effective:,.0f}{'' if one.trusted else ' (too few)'} |"
        for one in estimates
    ]
    return "\n".join([*lines, ""])


def _before(weight: Doubles) -> Doubles:
    """The weight of the positions above each, 1 for the first."""
    return np.concatenate([np.ones((len(weight), 1)), weight[:, :-1]], axis=1)


def _effective(weight: Doubles, shown: NDArray[np.bool_]) -> float:
    """Kish's effective number of lists at the deepest position that most lists have."""
    depth = int(np.flatnonzero(shown.mean(axis=0) >= 0.5).max(initial=0))
    at = weight[shown[:, depth], depth]
    squares = float((at**2).sum())
    return float(at.sum() ** 2 / squares) if squares > 0 else 0.0


def _mean(values: Doubles, user: NDArray[np.integer], users: int, level: float) -> tuple[float, float, float]:
    """The mean over lists, and its interval from the sums of users."""
    mean = float(values.mean())
    residual = np.bincount(user, values - mean, minlength=users)
    error = float(np.sqrt((residual**2).sum() * users / (users - 1))) / len(values)
    return _around(mean, error, level)


def _self_normalised(
    weight: Doubles,
    clicked: Doubles,
    shown: NDArray[np.bool_],
    user: NDArray[np.integer],
    users: int,
    level: float,
) -> tuple[float, float, float]:
    """Each position's weighted share of clicks, times the share of lists that have it, added up."""
    total = 0.0
    residual = np.zeros(len(weight))
    for k in range(weight.shape[1]):
        mass = float(weight[:, k].mean())
        if mass <= 0:
            continue
        there = float(shown[:, k].mean())
        share = float((weight[:, k] * clicked[:, k]).mean()) / mass
        total += there * share
        # Linearised: how each list moves the ratio of the two means.
        residual += there * weight[:, k] * (clicked[:, k] - share) / mass
    by_user = np.bincount(user, residual, minlength=users)
    error = float(np.sqrt((by_user**2).sum() * users / (users - 1))) / len(weight)
    return _around(total, error, level)


def _around(value: float, error: float, level: float) -> tuple[float, float, float]:
    reach = float(norm.ppf((1 + level) / 2)) * error
    return value, value - reach, value + reach
