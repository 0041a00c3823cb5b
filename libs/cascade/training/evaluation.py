"""Offline evaluation: the bundles that would serve, on rows they have not seen, as they would have been served.

Every evaluation row is an interaction of a later day. Its features are those of its own moment, through the
bundles' transforms; the item it was with is the one right answer. Items a user has met before stay in the lists
unless asked otherwise.

Shapes: R evaluation rows, I items (positions of the ranker's item table), K candidates.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cascade.data.contract import Dataset
from cascade.features.item_table import ItemTable
from cascade.features.point_in_time import training_rows
from cascade.features.spec import DEVICES, NEGATIVE_EVENT_TYPES, Encoded
from cascade.features.top_category import EVENT_WEIGHTS, EventWeights
from cascade.features.transforms import ContextTransform, UserTransform
from cascade.index.interface import CandidateIndex
from cascade.models.dlrm import Dlrm
from cascade.training import metrics
from cascade.training.baselines import Baseline, ItemKnn, Popularity, top_positions
from cascade.training.device import torch_threads
from cascade.training.errors import EvaluationError
from cascade.training.negatives import UniformNegatives
from cascade.training.query_rows import Queries, queries_of
from cascade.training.report import EvaluationReport, EvaluationRow

Floats = NDArray[np.float32]
Positions = NDArray[np.int32]
Progress = Callable[[str], None]
"""Called with the name of each stage as it begins."""

NEGATIVES = 5
_CHUNK = 64  # rows ranked at once: 64 × 300 candidates

POPULARITY, ITEM_KNN, TWO_TOWER, CASCADE, ORACLE = (
    "popularity",
    "item-kNN",
    "two-tower",
    "two-tower + DLRM",
    "oracle",
)
ALL, COLD = "all", "cold users"


class Retrieval(Queries, Protocol):
    """What evaluation needs of a retrieval bundle."""

    @property
    def index(self) -> CandidateIndex: ...


class Ranker(Protocol):
    """What evaluation needs of a ranker bundle."""

    @property
    def user_transform(self) -> UserTransform: ...
    @property
    def context_transform(self) -> ContextTransform: ...
    @property
    def items(self) -> ItemTable: ...
    @property
    def dlrm(self) -> Dlrm: ...


class Oracle(Protocol):
    """The true probabilities of a generated shop."""

    def click_probability(
        self,
        user_ids: Sequence[str],
        item_ids: Sequence[str] | None,
        device: Sequence[str | None],
        timestamp: NDArray[np.integer] | Sequence[int],
        recent: Sequence[Sequence[str]],
    ) -> Floats:
        """float32 [R, I]."""
        ...


def evaluate(
    dataset: Dataset,
    retrieval: Retrieval,
    ranker: Ranker,
    train_days: Sequence[dt.date],
    eval_days: Sequence[dt.date],
    oracle: Oracle | None = None,
    *,
    max_rows: int = 4000,
    seed: int = 0,
    candidates: int = 300,
    exclude_seen: bool = False,
    threads: int | None = 1,
    weights: EventWeights = EVENT_WEIGHTS,
    rows_file: Path | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Compare the cascade with popularity, item-kNN and, on a generated shop, the oracle.

    max_rows: a seeded sample of the evaluation days' interactions. exclude_seen: leave out of every list what
    the user met before the row's moment, as the filter stage does, and rows whose own item was met before.
    threads: of the models on the CPU.
    weights: those that training and serving use for top_category.
    rows_file: the evaluation days as `training_rows` wrote them; None: they are computed here.
    Slices: all rows; cold users (the same rows, the user unknown in every feature); each device.
    Raises EvaluationError where there is nothing to evaluate on.
    """
    tell = progress or (lambda stage: None)
    tell("rows")
    rows, dropped = _evaluation_rows(dataset, eval_days, ranker.items, max_rows, seed, weights, rows_file)
    history = _history(dataset, rows, ranker.items, exclude_seen)
    if exclude_seen:
        fresh = np.array([position not in seen for position, seen in zip(rows.item, history.sets, strict=True)])
        rows, history, dropped = rows.take(fresh), history.take(fresh), dropped + int((~fresh).sum())
        if not len(rows.item):
            raise EvaluationError("every evaluation row's item was met before; evaluate with seen items included")
    tell("baselines")
    popularity, knn = _baselines(dataset, train_days, ranker.items)
    shared = _Shared(dataset, retrieval, ranker, oracle, rows, history, popularity, knn, seed, candidates, exclude_seen)
    table: list[EvaluationRow] = []
    for cold in (False, True):
        tell(COLD if cold else ALL)
        with torch_threads(threads):
            answers = shared.answers(cold)
        everything = np.ones(len(rows.item), bool)
        slices = {COLD: everything} if cold else {ALL: everything, **_device_slices(rows.device)}
        for name, chosen in slices.items():
            table += _table(name, answers, chosen, rows.item)
    settings = {
        "train_days": [str(day) for day in sorted(train_days)],
        "eval_days": [str(day) for day in sorted(eval_days)],
        "rows": len(rows.item),
        "dropped_rows": dropped,
        "items": len(ranker.items),
        "candidates": candidates,
        "seen_items": "excluded" if exclude_seen else "included",
        "negatives": f"{NEGATIVES} uniform per click",
        "seed": seed,
    }
    return EvaluationReport(tuple(table), settings)


@dataclass(frozen=True)
class _Rows:
    """R interactions: `table` as training_rows writes them, item int32 [R]."""

    table: pa.Table
    item: Positions

    @property
    def device(self) -> list[str | None]:
        devices: list[str | None] = self.table.column("device_type").to_pylist()
        return devices

    def take(self, chosen: NDArray[np.bool_]) -> _Rows:
        return _Rows(self.table.filter(pa.array(chosen)), self.item[chosen])


@dataclass(frozen=True)
class _History:
    """What each row's user met before the row's moment: ids oldest first, and positions as a set."""

    ids: list[list[str]]
    sets: list[set[int]]

    def take(self, chosen: NDArray[np.bool_]) -> _History:
        at = np.flatnonzero(chosen)
        return _History([self.ids[n] for n in at], [self.sets[n] for n in at])


@dataclass(frozen=True)
class _Answer:
    """One model's answers: ranked positions int32 [R, K], -1 where a list ends; scores float [R, 1 + NEGATIVES]
    of the row's item and its negatives; whether these are probabilities of a click among them."""

    ranked: Positions
    scores: Floats
    calibrated: bool = False


class _Shared:
    """The models and rows of an evaluation, and the answers of each model."""

    def __init__(
        self,
        dataset: Dataset,
        retrieval: Retrieval,
        ranker: Ranker,
        oracle: Oracle | None,
        rows: _Rows,
        history: _History,
        popularity: Baseline,
        knn: Baseline,
        seed: int,
        candidates: int,
        exclude_seen: bool,
    ) -> None:
        self._dataset, self._retrieval, self._ranker, self._oracle = dataset, retrieval, ranker, oracle
        self._rows, self._history, self._exclude_seen = rows, history, exclude_seen
        self._baselines = {POPULARITY: popularity, ITEM_KNN: knn}
        self._candidates = candidates
        self._context = ranker.context_transform.transform(rows.table)
        # The index and the item table may order the catalog differently.
        self._table_position = ranker.items.positions(retrieval.item_ids)
        self._index_position = {item_id: n for n, item_id in enumerate(retrieval.item_ids)}
        drawn = UniformNegatives().draw(
            rows.item.astype(np.int64), NEGATIVES, len(ranker.items), np.random.default_rng(seed)
        )
        self._scored_items = np.concatenate([rows.item[:, None], drawn.items], axis=1)  # [R, 1 + NEGATIVES]

    def answers(self, cold: bool) -> dict[str, _Answer]:
        """Each model's answers; with `cold`, to users of whom nothing is known."""
        found: dict[str, _Answer] = {}
        user_ids: list[str | None] = self._rows.table.column("user_id").to_pylist()
        asked: list[str | None] = [None] * len(user_ids) if cold else user_ids
        for name, baseline in self._baselines.items():
            found[name] = self._from_scores(baseline.scores(asked))
        retrieved, two_tower = self._retrieve(cold)
        found[TWO_TOWER] = two_tower
        found[CASCADE] = self._rank(cold, retrieved)
        if self._oracle is not None:
            history = [[] for _ in user_ids] if cold else self._history.ids
            times = self._rows.table.column("timestamp").to_numpy().astype(np.int64)
            names = ["" if user is None else user for user in asked]
            chances = self._oracle.click_probability(
                names, self._ranker.items.item_ids, self._rows.device, times, history
            )
            found[ORACLE] = self._from_scores(chances)
        return found

    def _users(self, transform: UserTransform, cold: bool) -> Encoded:
        if not cold:
            return transform.transform(self._rows.table)
        nothing = [None] * len(self._rows.item)
        return transform.encode(nothing, nothing, nothing, nothing)

    def _from_scores(self, scores: Floats) -> _Answer:
        """float32 [R, I] → the best K of each row."""
        ranked = np.full((len(scores), self._candidates), -1, np.int32)
        for start in range(0, len(scores), 512):
            part = np.array(scores[start : start + 512])
            seen = self._history.sets[start : start + 512] if self._exclude_seen else []
            for row, positions in enumerate(seen):
                part[row, list(positions)] = -np.inf
            top = top_positions(part, self._candidates)
            top[np.take_along_axis(part, top, axis=1) == -np.inf] = -1
            ranked[start : start + 512, : top.shape[1]] = top
        return _Answer(ranked, np.take_along_axis(scores, self._scored_items, axis=1))

    def _retrieve(self, cold: bool) -> tuple[Positions, _Answer]:
        """The candidates of each row in retrieval's order, and retrieval's scores."""
        queries = queries_of(self._retrieval, self._rows.table, self._dataset, unknown=cold)
        deepest = max((len(seen) for seen in self._history.sets), default=0) if self._exclude_seen else 0
        _, found = self._retrieval.index.search(queries, min(self._candidates + deepest, self._retrieval.index.count))
        positions = np.where(found >= 0, self._table_position[found], -1)
        ranked = np.full((len(queries), self._candidates), -1, np.int32)
        for row, line in enumerate(positions):
            seen = self._history.sets[row] if self._exclude_seen else set()
            kept = [p for p in line.tolist() if p >= 0 and p not in seen][: self._candidates]
            ranked[row, : len(kept)] = kept
        scored = np.array([self._index_position.get(i, -1) for i in self._ranker.items.item_ids])
        known = [n for n in np.unique(self._scored_items) if scored[n] >= 0]
        vectors = np.zeros((len(scored), queries.shape[1]), np.float32)
        for n in known:
            vectors[n] = self._retrieval.index.reconstruct(int(scored[n]))
        scores = np.einsum("rd,rnd->rn", queries, vectors[self._scored_items])
        return ranked, _Answer(ranked, scores)

    def _rank(self, cold: bool, retrieved: Positions) -> _Answer:
        """The candidates in the ranker's order, and its probabilities."""
        users = self._users(self._ranker.user_transform, cold)
        ranked = np.full_like(retrieved, -1)
        scores = np.empty(self._scored_items.shape, np.float32)
        for start in range(0, len(retrieved), _CHUNK):
            part = slice(start, start + _CHUNK)
            at = np.arange(len(retrieved))[part]
            chance = self._probabilities(users, at, np.maximum(retrieved[part], 0))
            chance[retrieved[part] < 0] = -1.0
            order = np.argsort(-chance, axis=1, kind="stable")
            ranked[part] = np.take_along_axis(retrieved[part], order, axis=1)
            scores[part] = self._probabilities(users, at, self._scored_items[part])
        return _Answer(ranked, scores, calibrated=True)

    def _probabilities(self, users: Encoded, at: NDArray[np.int64], items: NDArray[np.integer]) -> Floats:
        """The ranker on rows `at` [B] and items [B, N] → float32 [B, N]."""
        table, flat = self._ranker.items, items.ravel()
        rows = np.repeat(at, items.shape[1])
        user, context = users.take(rows), self._context.take(rows)
        chance = self._ranker.dlrm.predict(
            np.concatenate([user.categorical, table.categorical[flat], context.categorical], axis=1),
            np.concatenate([user.continuous, table.continuous[flat], context.continuous], axis=1),
            table.image[flat],
            table.text[flat],
        )
        return chance.reshape(items.shape)


def _evaluation_rows(
    dataset: Dataset,
    days: Sequence[dt.date],
    items: ItemTable,
    max_rows: int,
    seed: int,
    weights: EventWeights,
    written: Path | None,
) -> tuple[_Rows, int]:
    """A seeded sample of the days' rows with known items, and how many rows had unknown ones."""
    with tempfile.TemporaryDirectory(prefix="cascade-evaluation-") as folder:
        path = written or Path(folder) / "rows.parquet"
        if written is None:
            training_rows(dataset, list(days), path, weights=weights)
        table = pq.read_table(path)
    positions = items.positions(table.column("item_id"))
    known = np.flatnonzero(positions >= 0)
    if not len(known):
        raise EvaluationError(
            f"the days {', '.join(map(str, days))} hold {len(positions)} interactions, none with an item of the "
            "ranker's table; evaluate on days with interactions, with the catalog the models were trained on"
        )
    dropped = len(positions) - len(known)
    if len(known) > max_rows:
        known = np.sort(np.random.default_rng(seed).choice(known, max_rows, replace=False))
    return _Rows(table.take(pa.array(known)), positions[known]), dropped


def _history(dataset: Dataset, rows: _Rows, items: ItemTable, needed_as_sets: bool) -> _History:
    """What each row's user met strictly before its moment, over all earlier days of the dataset."""
    users = pc.unique(rows.table.column("user_id"))
    times: dict[str, list[tuple[int, str]]] = {}
    latest = int(pc.max(rows.table.column("timestamp")).as_py())
    for day in dataset.days():
        if dt.datetime.combine(day, dt.time(), dt.UTC).timestamp() > latest:
            break
        events = dataset.interactions([day]).select(["user_id", "item_id", "timestamp"])
        events = events.filter(pc.is_in(events.column("user_id"), users)).sort_by("timestamp")
        columns = (events.column(name).to_pylist() for name in ("user_id", "timestamp", "item_id"))
        for user, timestamp, item in zip(*columns, strict=True):
            times.setdefault(user, []).append((timestamp, item))
    ids: list[list[str]] = []
    asked = (rows.table.column(name).to_pylist() for name in ("user_id", "timestamp"))
    for user, timestamp in zip(*asked, strict=True):
        ids.append([item for at, item in times.get(user, ()) if at < timestamp])
    if not needed_as_sets:
        return _History(ids, [set() for _ in ids])
    return _History(ids, [{int(p) for p in items.positions(met) if p >= 0} for met in ids])


def _baselines(dataset: Dataset, days: Sequence[dt.date], items: ItemTable) -> tuple[Popularity, ItemKnn]:
    positions, user_ids = [], []
    for day in sorted(days):  # one at a time, so that memory holds codes of all days and the strings of one
        interactions = dataset.interactions([day]).select(["user_id", "item_id", "event_type"])
        negative = pc.is_in(interactions.column("event_type"), pa.array(NEGATIVE_EVENT_TYPES))
        interactions = interactions.filter(pc.invert(negative))
        found = items.positions(interactions.column("item_id"))
        positions.append(found[found >= 0])
        user_ids.append(interactions.column("user_id").filter(pa.array(found >= 0)).dictionary_encode())
    met = np.concatenate(positions)
    if not len(met):
        raise EvaluationError(f"the training days {', '.join(map(str, days))} hold no interaction with a known item")
    chunks = [chunk for column in user_ids for chunk in column.chunks]
    column = pa.chunked_array(chunks).unify_dictionaries()
    return Popularity(met, len(items)), ItemKnn(column, met, len(items))


def _device_slices(devices: list[str | None]) -> dict[str, NDArray[np.bool_]]:
    slices = {device: np.array([d == device for d in devices], bool) for device in DEVICES}
    slices["unknown device"] = np.array([d not in DEVICES for d in devices], bool)
    return {name: chosen for name, chosen in slices.items() if chosen.any()}


def _table(name: str, answers: dict[str, _Answer], chosen: NDArray[np.bool_], items: Positions) -> list[EvaluationRow]:
    """One slice's rows of the report."""
    measured = {model: _measure(answer, chosen, items) for model, answer in answers.items()}
    best = measured.get(ORACLE, {}).get("ndcg@10", 0.0)
    if best > 0:
        for values in measured.values():
            values["oracle_share"] = values["ndcg@10"] / best
    return [EvaluationRow(model, name, int(chosen.sum()), values) for model, values in measured.items()]


def _measure(answer: _Answer, chosen: NDArray[np.bool_], items: Positions) -> dict[str, float]:
    hits = metrics.hits_of(answer.ranked[chosen], items[chosen])
    scores: NDArray[Any] = answer.scores[chosen].ravel()
    labels = np.zeros(answer.scores[chosen].shape, bool)
    labels[:, 0] = True
    flat = labels.ravel()
    values = {
        "recall@10": float(metrics.recall_at_k(hits, 10).mean()),
        "recall@100": float(metrics.recall_at_k(hits, 100).mean()),
        "recall@300": float(metrics.recall_at_k(hits, 300).mean()),
        "ndcg@10": float(metrics.ndcg_at_k(hits, 10).mean()),
        "mrr": float(metrics.reciprocal_rank(hits).mean()),
        "auc": metrics.auc(flat, scores),
    }
    if answer.calibrated:
        values["log_loss"] = metrics.log_loss(flat, scores)
        values["calibration_error"] = metrics.calibration_error(flat, scores)
    return values
