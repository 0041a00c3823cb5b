"""Hyper-parameters searched by Optuna within a budget of time, judged on rows before the evaluation's.

The training rows are split once more by time; the later part judges every trial, and the evaluation rows are never
looked at. The two towers come first (NDCG@10 of retrieval's own order), then the ranker behind the best of them
(NDCG@10 of the whole cascade). Each search begins with the defaults, so that what is found is no worse than they are on
the judging rows. Tree-structured Parzen estimator (Bergstra et al. 2011), seeded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cascade.features.top_category import EVENT_WEIGHTS, EventWeights
from cascade.models.two_tower import TwoTower
from cascade.training import metrics
from cascade.training.answers import CASCADE, TWO_TOWER, Stages, negatives_of
from cascade.training.device import torch_threads
from cascade.training.errors import TrainingDivergedError, TrainingInputError, TrainingStalledError
from cascade.training.offline import Prepared, Progress, Ranker, Retrieval, prepare, retrieval_of, train, train_towers
from cascade.training.parameters import Parameters
from cascade.training.questions import Questions, ask

TWO_TOWER_SHARE = 0.6
"""Of the time, for the two towers: the ranker can only order what they find."""
JUDGED_ROWS = 2000


@dataclass(frozen=True)
class Trial:
    """One set of hyper-parameters that was tried: of which model, what was changed, its NDCG@10 on the judging rows."""

    model: str
    changes: dict[str, Any]
    ndcg_at_10: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Tuned:
    """The best hyper-parameters, as `Parameters.from_dict` reads them, and all that was tried."""

    parameters: dict[str, Any]
    trials: tuple[Trial, ...]


def tune(
    prepared: Prepared,
    folder: Path,
    *,
    minutes: float,
    exclude_seen: bool,
    candidates: int = 300,
    seed: int = 0,
    threads: int = 1,
    weights: EventWeights = EVENT_WEIGHTS,
    trials: int | None = None,
    progress: Callable[[Trial], None] | None = None,
    stage: Progress | None = None,
) -> Tuned:
    """Search for so many minutes; a trial that has begun is finished, and the defaults are always tried.

    trials: of each model at most; with the time out of the way the same seed finds the same
    Raises TrainingInputError on a budget that is not above 0.
    """
    if minutes <= 0:
        raise TrainingInputError(f"{minutes} minutes; give more than 0")
    inner = prepare(
        prepared.dataset,
        folder,
        lambda: prepared.content,
        split=prepared.split,
        query=prepared.query,
        seed=seed,
        weights=weights,
        click_weights=prepared.click_weights,
        rows=prepared.train_file,
        progress=stage,
    )
    judge = _Judge(inner, exclude_seen, candidates, seed, threads, weights)
    search = _Search(judge, seed, trials, progress)
    towers = search.run("two_tower", _suggest_towers, judge.towers, minutes * 60 * TWO_TOWER_SHARE)
    best_towers = judge.best_towers
    if best_towers is None:
        raise TrainingInputError("no trial of the two towers came to an end; look at the data, or the learning rates")

    def ranker(changes: dict[str, Any]) -> float:
        return judge.ranker(changes, best_towers)

    dlrm = search.run("dlrm", _suggest_dlrm, ranker, minutes * 60 * (1 - TWO_TOWER_SHARE))
    return Tuned({"two_tower": towers, "dlrm": dlrm}, tuple(search.tried))


class _Judge:
    """Trains with given changes and tells NDCG@10 on the judging rows."""

    def __init__(
        self,
        inner: Prepared,
        exclude_seen: bool,
        candidates: int,
        seed: int,
        threads: int,
        weights: EventWeights,
    ) -> None:
        self._inner, self._exclude_seen, self._candidates = inner, exclude_seen, candidates
        self._seed, self._threads = seed, threads
        asked, _ = ask(
            inner.dataset,
            inner.eval_days,
            inner.items,
            max_rows=JUDGED_ROWS,
            seed=seed,
            weights=weights,
            rows_file=inner.rows_file,
        )
        fresh = asked.fresh()
        # Rows whose item was met before can be no hit where seen items are left out.
        self._asked: Questions = asked.take(np.flatnonzero(fresh)) if exclude_seen and fresh.any() else asked
        self._scored = negatives_of(self._asked, len(inner.items), seed)
        self._best = -1.0
        self.best_towers: TwoTower | None = None

    def towers(self, changes: dict[str, Any]) -> float:
        """Of retrieval alone; the best towers are kept."""
        parameters = Parameters.from_dict({"two_tower": changes})
        towers, _ = train_towers(self._inner, parameters, seed=self._seed, threads=self._threads)
        stages = self._stages(retrieval_of(self._inner, towers, self._seed), None)
        with torch_threads(self._threads):
            value = self._ndcg(stages.answers(self._asked, self._scored)[TWO_TOWER].ranked)
        if value > self._best:
            self._best, self.best_towers = value, towers
        return value

    def ranker(self, changes: dict[str, Any], towers: TwoTower) -> float:
        """Of the whole cascade behind these towers."""
        parameters = Parameters.from_dict({"dlrm": changes})
        trained = train(self._inner, parameters, towers=towers, seed=self._seed, threads=self._threads)
        stages = self._stages(trained.retrieval, trained.ranker)
        with torch_threads(self._threads):
            return self._ndcg(stages.answers(self._asked, self._scored)[CASCADE].ranked)

    def _stages(self, retrieval: Retrieval, ranker: Ranker | None) -> Stages:
        return Stages(
            retrieval, ranker, self._inner.items, candidates=self._candidates, exclude_seen=self._exclude_seen
        )

    def _ndcg(self, ranked: Any) -> float:
        return float(metrics.ndcg_at_k(metrics.hits_of(ranked, self._asked.item), 10).mean())


class _Search:
    """Optuna over one model at a time."""

    def __init__(self, judge: _Judge, seed: int, trials: int | None, progress: Callable[[Trial], None] | None) -> None:
        self._judge, self._seed, self._trials, self._progress = judge, seed, trials, progress
        self.tried: list[Trial] = []

    def run(
        self, model: str, suggest: Callable[[Any], dict[str, Any]], judge: Callable[[dict[str, Any]], float], s: float
    ) -> dict[str, Any]:
        """The best changes found in `s` seconds; none where nothing beats the defaults."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        started = time.monotonic()
        best, best_value = {}, self._try(model, {}, judge)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=self._seed))
        done = 1
        while time.monotonic() - started < s and (self._trials is None or done < self._trials):
            trial = study.ask()
            changes = suggest(trial)
            value = self._try(model, changes, judge)
            study.tell(trial, value)
            done += 1
            if value > best_value:
                best, best_value = changes, value
        return best

    def _try(self, model: str, changes: dict[str, Any], judge: Callable[[dict[str, Any]], float]) -> float:
        started = time.monotonic()
        try:
            value = judge(changes)
        except (TrainingDivergedError, TrainingStalledError):
            value = 0.0  # such settings are no good, and the search learns that
        self.tried.append(Trial(model, changes, value, time.monotonic() - started))
        if self._progress:
            self._progress(self.tried[-1])
        return value


def _suggest_towers(trial: Any) -> dict[str, Any]:
    return {
        "user_id_dropout": trial.suggest_float("user_id_dropout", 0.0, 1.0),
        "item_id_dropout": trial.suggest_float("item_id_dropout", 0.0, 0.3),
        "exclude_met": trial.suggest_categorical("exclude_met", [False, True]),
        "loop": _suggest_loop(trial),
        "network": {"dim": trial.suggest_categorical("dim", [32, 64, 128])},
    }


def _suggest_dlrm(trial: Any) -> dict[str, Any]:
    return {
        "negatives_per_click": trial.suggest_categorical("negatives_per_click", [3, 5, 10]),
        "user_id_dropout": trial.suggest_float("user_id_dropout", 0.0, 1.0),
        "alike_share": trial.suggest_categorical("alike_share", [0.0, 0.5]),
        "item_id_dropout": trial.suggest_float("item_id_dropout", 0.0, 0.3),
        "loop": _suggest_loop(trial),
    }


def _suggest_loop(trial: Any) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        "batch": trial.suggest_categorical("batch", [256, 512, 1024, 2048]),
        "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True),
    }
