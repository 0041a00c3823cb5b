"""Offline evaluation: the bundles that would serve, on rows they have not seen, as they would have been served.

Every evaluation row is an interaction of a later day. Its features are those of its own moment, through the
bundles' transforms; the item it was with is the one right answer. Items a user has met before stay in the lists
unless asked otherwise. docs/evaluation.md has the definitions.

Shapes: R evaluation rows, I items (positions of the ranker's item table), K candidates.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cascade.data.contract import Dataset
from cascade.features.item_table import ItemTable
from cascade.features.top_category import EVENT_WEIGHTS, EventWeights
from cascade.models.two_tower import CandidateTower
from cascade.training.ablation import GROUPS, Group, is_inert
from cascade.training.answers import CASCADE, NEGATIVES, ORACLE, TWO_TOWER, Answer, Others, Stages, negatives_of
from cascade.training.baselines import Met
from cascade.training.bootstrap import REPLICATES, Bootstrap
from cascade.training.contestants import ITEM_KNN, LIGHT_BASELINES, POPULARITY, Contestants, fit_baselines
from cascade.training.curves import curves_of
from cascade.training.device import torch_threads
from cascade.training.errors import EvaluationError, TrainingInputError
from cascade.training.measure import COMPARED, LIST, Ground, compare, measure, report_slice
from cascade.training.questions import Questions, ask
from cascade.training.report import Ablation, Comparison, Curves, EvaluationReport, EvaluationRow
from cascade.training.slices import ALL, COLD, new_users, slices_of
from cascade.training.stages import Oracle, Ranker, Retrieval

__all__ = [
    "ALL",
    "CASCADE",
    "COLD",
    "ITEM_KNN",
    "ORACLE",
    "POPULARITY",
    "TWO_TOWER",
    "Oracle",
    "Ranker",
    "Retrieval",
    "Scope",
    "evaluate",
]

Progress = Callable[[str], None]
"""Called with the name of each stage as it begins."""


@dataclass(frozen=True)
class Scope:
    """How much an evaluation looks at.

    max_rows: a seeded sample of the evaluation days' interactions
    candidates: items that retrieval hands on
    exclude_seen: leave out of every list what the user met before the row's moment, as the filter stage does, and rows
        whose own item was met before
    baselines: names of `contestants.ALL_BASELINES`
    new_user_events: the rows are asked again as if their users had come so many interactions ago
    replicates: draws of users for the confidence intervals; 0 for none
    ablations: rows on which each group of features is hidden in turn; 0 for none
    """

    max_rows: int = 4000
    candidates: int = 300
    exclude_seen: bool = False
    baselines: Sequence[str] = LIGHT_BASELINES
    new_user_events: Sequence[int] = (0,)
    replicates: int = REPLICATES
    ablations: int = 0


def evaluate(
    dataset: Dataset,
    retrieval: Retrieval,
    ranker: Ranker,
    train_days: Sequence[dt.date],
    eval_days: Sequence[dt.date],
    oracle: Oracle | None = None,
    scope: Scope | None = None,
    *,
    seed: int = 0,
    threads: int | None = 1,
    weights: EventWeights = EVENT_WEIGHTS,
    rows_file: Path | None = None,
    train_file: Path | None = None,
    tower: CandidateTower | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Compare the cascade with baselines fitted on the training days and, on a generated shop, the oracle.

    threads: of the models on the CPU.
    weights: those that training and serving use for top_category.
    rows_file, train_file: evaluation and training rows as `training_rows` wrote them; None: the days' interactions.
    tower: the index's candidate tower, without which no feature of items can be hidden from retrieval.
    Raises EvaluationError where there is nothing to evaluate on.
    """
    scope, tell = scope or Scope(), progress or (lambda stage: None)
    tell("rows")
    questions, dropped = ask(
        dataset, eval_days, ranker.items, max_rows=scope.max_rows, seed=seed, weights=weights, rows_file=rows_file
    )
    if scope.exclude_seen:
        fresh = questions.fresh()
        questions, dropped = questions.take(np.flatnonzero(fresh)), dropped + int((~fresh).sum())
        if not len(questions):
            raise EvaluationError("every evaluation row's item was met before; evaluate with seen items included")
    met = _met(dataset, train_days, train_file, ranker.items)
    contestants = fit_baselines(
        scope.baselines,
        met,
        seed=seed,
        threads=threads or 1,
        exclude_seen=scope.exclude_seen,
        progress=lambda name: tell(f"baseline {name}"),
    )
    run = _Run(retrieval, ranker, oracle, scope, seed, questions, met, contestants, dataset.items())
    with torch_threads(threads):
        rows, comparisons, curves = run.all_rows(tell)
        for events in scope.new_user_events:
            tell(new_users(events))
            more, leads = run.new_users(events, weights)
            rows, comparisons = rows + more, comparisons + leads
        ablations = run.ablations(tower, tell) if scope.ablations else []
    settings = {
        "train_days": [str(day) for day in sorted(train_days)],
        "eval_days": [str(day) for day in sorted(eval_days)],
        "rows": len(questions),
        "users": len(np.unique(questions.user_codes)),
        "dropped_rows": dropped,
        "items": len(ranker.items),
        "candidates": scope.candidates,
        "seen_items": "excluded" if scope.exclude_seen else "included",
        "negatives": f"{NEGATIVES} uniform per click",
        "intervals": f"95 %, {scope.replicates} draws of users" if scope.replicates else "none",
        "baselines": {name: dict(chosen) for name, chosen in contestants.settings.items()},
        "baselines_skipped": contestants.skipped,
        "seed": seed,
    }
    return EvaluationReport(tuple(rows), settings, tuple(comparisons), tuple(ablations), curves)


@dataclass(frozen=True)
class _Run:
    """The models and rows of one evaluation."""

    retrieval: Retrieval
    ranker: Ranker
    oracle: Oracle | None
    scope: Scope
    seed: int
    questions: Questions
    met: Met
    contestants: Contestants
    catalog: pa.Table

    def all_rows(self, tell: Progress) -> tuple[list[EvaluationRow], list[Comparison], Curves]:
        """Every slice of the rows as they were, and the curves of all of them."""
        tell(ALL)
        answers, ground = self._answers(self.questions)
        categories = dict(zip(*(self.catalog.column(n).to_pylist() for n in ("item_id", "category_l1")), strict=True))
        slices = slices_of(
            self.questions,
            self.met.counts,
            [categories.get(item) or "" for item in self.ranker.items.item_ids],
            answers[TWO_TOWER].ranked,
        )
        rows, comparisons = self._report(answers, ground, slices)
        return rows, comparisons, curves_of(answers, self.questions.item, self.met.counts)

    def new_users(self, events: int, weights: EventWeights) -> tuple[list[EvaluationRow], list[Comparison]]:
        """All rows, asked as if each user were new."""
        asked = self.questions.as_new_users(events, self.catalog, weights)
        answers, ground = self._answers(asked)
        everything = np.ones(len(asked), bool)
        return self._report(answers, ground, {new_users(events): everything})

    def ablations(self, tower: CandidateTower | None, tell: Progress) -> list[Ablation]:
        """Each group of features hidden in turn, on a sample of the rows."""
        count = min(self.scope.ablations, len(self.questions))
        sample = np.sort(np.random.default_rng(self.seed).choice(len(self.questions), count, replace=False))
        asked = self.questions.take(sample)
        scored = self._scored()[sample]
        ground = self._ground(asked, None)
        whole = {name: measure(one, ground) for name, one in self._stages(None, None).answers(asked, scored).items()}
        draws = Bootstrap(ground.user, self.scope.replicates, self.seed) if self.scope.replicates else None
        everything = np.ones(count, bool)
        found = []
        users = self.ranker.user_transform.transform(asked.table)
        context = self.ranker.context_transform.transform(asked.table)
        for group in GROUPS:
            if group.history and not self._reads_history:
                continue
            if is_inert(group, self.ranker.items, users, context, self.ranker.user_transform):
                continue  # the folder has none of it
            tell(f"without {group.name}")
            answers = self._stages(group, tower).answers(asked, scored)
            for name, answer in answers.items():
                without = measure(answer, ground)
                for metric in COMPARED:
                    loss, span = compare(whole[name], without, metric, everything, draws)
                    value = float(without.by_row[metric].mean())
                    found.append(Ablation(group.name, name, metric, value, loss, span))
        return found

    def _stages(self, hidden: Group | None, tower: CandidateTower | None) -> Stages:
        return Stages(
            self.retrieval,
            self.ranker,
            self.ranker.items,
            candidates=self.scope.candidates,
            exclude_seen=self.scope.exclude_seen,
            hidden=hidden,
            tower=tower,
        )

    @property
    def _reads_history(self) -> bool:
        """Whether one of the models does."""
        return self.retrieval.query_tower.config.mode == "session" or self.ranker.dlrm.config.history_length > 0

    def _scored(self) -> NDArray[np.int32]:
        return negatives_of(self.questions, len(self.ranker.items), self.seed)

    def _answers(self, asked: Questions) -> tuple[dict[str, Answer], Ground]:
        others = Others(
            self.contestants.fitted,
            self.met,
            self.oracle,
            self.ranker.items,
            candidates=self.scope.candidates,
            exclude_seen=self.scope.exclude_seen,
        )
        scored = self._scored()
        found = others.answers(asked, scored)
        best = found.pop(ORACLE, None)
        answers = {**found, **self._stages(None, None).answers(asked, scored)}
        if best is not None:
            answers[ORACLE] = best
        return answers, self._ground(asked, None if best is None else best.ranked[:, :LIST])

    def _ground(self, asked: Questions, oracle: NDArray[np.integer] | None) -> Ground:
        users = len(self.met.user_ids)
        by_users = np.asarray(self.met.matrix.sum(axis=0)).ravel()
        shares = np.maximum(by_users, 0.5) / users
        # Users of the rows as they were: new users are the same people, asked otherwise.
        codes = self.questions.user_codes if len(asked) == len(self.questions) else asked.user_codes
        return Ground(asked.item, codes, shares, _content(self.ranker.items), oracle)

    def _report(
        self, answers: dict[str, Answer], ground: Ground, slices: dict[str, NDArray[np.bool_]]
    ) -> tuple[list[EvaluationRow], list[Comparison]]:
        measured = {name: measure(answer, ground) for name, answer in answers.items()}
        rows: list[EvaluationRow] = []
        comparisons: list[Comparison] = []
        for name, chosen in slices.items():
            more, leads = report_slice(name, measured, ground, chosen, self.scope.replicates, self.seed)
            rows, comparisons = rows + more, comparisons + leads
        return rows, comparisons


def _content(items: ItemTable) -> NDArray[np.float32]:
    """What items look like and say, or else their categories, float32 [I, D]; D is 0 where there is neither."""
    content = np.concatenate([items.image, items.text], axis=1)
    if content.any():
        return content
    l1 = items.categorical[:, 1]
    return np.eye(int(l1.max()) + 1, dtype=np.float32)[l1] if l1.any() else content[:, :0]


def _met(dataset: Dataset, days: Sequence[dt.date], written: Path | None, items: ItemTable) -> Met:
    parts: Iterable[Any] = dataset.interaction_parts(days)
    if written is not None:
        parts = [pq.read_table(written, columns=["user_id", "item_id", "timestamp", "event_type"])]
    try:
        return Met.of(parts, items)
    except TrainingInputError as error:
        raise EvaluationError(
            f"the training days {', '.join(map(str, days))} hold no interaction with a known item"
        ) from error
