"""Which baselines compete, and with which of their settings: each is tuned a little, on the training rows alone.

The last tenth of the training interactions judges a few settings of each baseline by NDCG@10; the best is fitted again
on all of them. So the best baseline is one that somebody meant to be good.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp  # type: ignore[import-untyped]
from numpy.typing import NDArray

from cascade.training import metrics
from cascade.training.baselines import Als, Baseline, Bpr, Ease, ItemKnn, Met, Popularity, RecentPopularity
from cascade.training.baselines import top_positions as best_of
from cascade.training.errors import TrainingInputError

POPULARITY, RECENT, ITEM_KNN, ALS, BPR, EASE = (
    "popularity",
    "recent popularity",
    "item-kNN",
    "ALS",
    "BPR",
    "EASE",
)
ALL_BASELINES = (POPULARITY, RECENT, ITEM_KNN, ALS, BPR, EASE)
LIGHT_BASELINES = (POPULARITY, RECENT, ITEM_KNN)
"""Those that cost next to nothing beside a training, at any size."""

EASE_ITEMS = 10_000
"""EASE inverts a dense matrix of items by items: beyond this it takes gigabytes and minutes."""
BPR_UPDATES = 100_000_000
"""BPR's steps, at most: half a minute of processor time. Larger trainings get fewer passes."""
TUNED_INTERACTIONS = 500_000
"""Beyond this many, baselines keep their first settings: tuning would cost several fits each."""
_JUDGED_ROWS = 1500
_JUDGED_SHARE = 0.1

Settings = Mapping[str, float]

GRIDS: Mapping[str, Sequence[Settings]] = {
    POPULARITY: ({},),
    RECENT: ({"half_life_days": 1.0}, {"half_life_days": 7.0}, {"half_life_days": 30.0}),
    ITEM_KNN: ({"neighbours": 200}, {"neighbours": 50}, {"neighbours": 1000}),
    ALS: (
        {"alpha": 5.0, "regularisation": 0.05},
        {"alpha": 1.0, "regularisation": 0.05},
        {"alpha": 5.0, "regularisation": 5.0},
        {"alpha": 20.0, "regularisation": 5.0},
    ),
    BPR: (
        {"regularisation": 0.01},
        {"regularisation": 0.05},
    ),
    EASE: ({"regularisation": 250.0}, {"regularisation": 50.0}, {"regularisation": 1000.0}),
}
"""The first of each is what stands where nothing is tuned."""


@dataclass
class Contestants:
    """Fitted baselines, the settings each competes with, and why any is absent."""

    fitted: dict[str, Baseline] = field(default_factory=dict)
    settings: dict[str, Settings] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def fit_baselines(
    names: Sequence[str],
    met: Met,
    *,
    seed: int = 0,
    threads: int = 1,
    exclude_seen: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Contestants:
    """Tune and fit the named baselines.

    exclude_seen: whether the lists they are judged by leave out what a user met before
    Raises TrainingInputError on a name that is none of ALL_BASELINES.
    """
    unknown = sorted(set(names) - set(ALL_BASELINES))
    if unknown:
        raise TrainingInputError(f"baseline {unknown[0]!r} is unknown; there are {', '.join(ALL_BASELINES)}")
    found = Contestants()
    trial = _Trial.of(met, exclude_seen, seed) if len(met.item) <= TUNED_INTERACTIONS else None
    for name in (known for known in ALL_BASELINES if known in names):
        if name == EASE and met.items > EASE_ITEMS:
            found.skipped[name] = f"{met.items:,} items; it inverts a dense matrix, at most of {EASE_ITEMS:,}"
            continue
        if progress:
            progress(name)
        make = _makers(met, seed, threads)[name]
        try:
            settings = GRIDS[name][0] if trial is None else trial.best(name, seed, threads)
            found.fitted[name] = make(settings)
        except ModuleNotFoundError as error:
            found.skipped[name] = f"{error.name} is not installed; it comes with the extra `orchestration`"
            continue
        found.settings[name] = settings
    return found


def _makers(met: Met, seed: int, threads: int) -> dict[str, Callable[[Settings], Baseline]]:
    passes = max(5, min(100, BPR_UPDATES // max(1, met.matrix.nnz)))

    def bpr(settings: Settings) -> Baseline:
        return Bpr(met, **settings, iterations=passes, seed=seed)  # type: ignore[arg-type]

    def als(settings: Settings) -> Baseline:
        return Als(met, **settings, seed=seed, threads=threads)  # type: ignore[arg-type]

    return {
        POPULARITY: lambda settings: Popularity(met),
        RECENT: lambda settings: RecentPopularity(met, **settings),
        ITEM_KNN: lambda settings: ItemKnn(met, **settings),  # type: ignore[arg-type]
        ALS: als,
        BPR: bpr,
        EASE: lambda settings: Ease(met, **settings),
    }


@dataclass(frozen=True)
class _Trial:
    """Training interactions split by time.

    user, item: int32 [J], the later ones; history: sparse [J, I], what each user met among the earlier
    """

    earlier: Met
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    history: Any
    exclude_seen: bool

    @classmethod
    def of(cls, met: Met, exclude_seen: bool, seed: int) -> _Trial | None:
        """None where there is too little to split."""
        order = np.argsort(met.timestamp, kind="stable")
        cut = int(len(order) * (1 - _JUDGED_SHARE))
        first, last = order[:cut], order[cut:]
        if not len(first) or not len(last):
            return None
        chosen = np.zeros(len(order), bool)
        chosen[first] = True
        earlier = met.take(chosen)
        if exclude_seen:
            fresh = np.asarray(earlier.matrix[met.user[last], met.item[last]]).ravel() == 0
            last = last[fresh]
        if not len(last):
            return None
        if len(last) > _JUDGED_ROWS:
            last = np.sort(np.random.default_rng(seed).choice(last, _JUDGED_ROWS, replace=False))
        user, item = met.user[last], met.item[last]
        return cls(earlier, user, item, earlier.matrix[user], exclude_seen)

    def best(self, name: str, seed: int, threads: int) -> Settings:
        grid = GRIDS[name]
        if len(grid) == 1:
            return grid[0]
        make = _makers(self.earlier, seed, threads)[name]
        scores = [self._ndcg(make(settings)) for settings in grid]
        return grid[int(np.argmax(scores))]  # the first among equals

    def _ndcg(self, baseline: Baseline) -> float:
        scores = np.array(baseline.scores(self.user, self.history))
        if self.exclude_seen:
            scores[self.history.nonzero()] = -np.inf
        hits = metrics.hits_of(best_of(scores, 10), self.item)
        return float(metrics.ndcg_at_k(hits, 10).mean())


def history_matrix(rows: NDArray[np.integer], items: NDArray[np.integer], shape: tuple[int, int]) -> Any:
    """Sparse float32 ones [R, I] from who met what, as `Baseline.scores` takes it."""
    matrix = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, items)), shape=shape)
    matrix.data[:] = 1.0
    return matrix
