"""Gates: a fine-tuned model serves only if it is not worse than the version that serves, beyond stated tolerances.

Both are asked about the same rows, which neither has learned from: the held-out end of the new day (replay.py). The
day after, which would be the better judge, is not there yet when the decision is made; the evaluation days of the full
training are, but the fine-tuned model has replayed them. Each version is asked through its own transforms, as served.

Slices: all rows, users and items that the full training did not meet, each device. A slice of few rows is noise and is
not judged, which the verdict says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cascade.features.history import histories_of_rows
from cascade.features.item_table import UNKNOWN, ItemTable
from cascade.features.source import InteractionSource
from cascade.features.spec import DEVICES, OOV
from cascade.features.transforms import UserTransform
from cascade.training import metrics
from cascade.training.affinities import row_affinities
from cascade.training.device import torch_threads
from cascade.training.errors import EvaluationError
from cascade.training.evaluation import Ranker, Retrieval
from cascade.training.histories import ranker_histories
from cascade.training.query_rows import queries_of

RECALL, NDCG, AUC, CALIBRATION = "recall@100", "ndcg@10", "auc", "calibration_error"
RETRIEVAL_METRICS, RANKER_METRICS = (RECALL,), (NDCG, AUC, CALIBRATION)
HIGHER_IS_BETTER = {RECALL: True, NDCG: True, AUC: True, CALIBRATION: False}

ALL, NEW_USERS, NEW_ITEMS = "all", "new users", "new items"
NEGATIVES = 5
_CHUNK = 64  # rows ranked at once: 64 × 300 candidates

Mask = NDArray[np.bool_]
Slices = Mapping[str, Mask]
Measured = Mapping[str, Mapping[str, float]]
"""slice → metric → value; a metric that is not defined on a slice is absent."""


@dataclass(frozen=True)
class Tolerances:
    """How much worse than the serving version each metric may be, in the metric's own units.

    slice_factor: the tolerance of a slice is this many times that of all rows, since it holds fewer
    least_rows: a slice of fewer rows is not judged
    """

    recall_at_100: float = 0.01
    ndcg_at_10: float = 0.01
    auc: float = 0.005
    calibration_error: float = 0.01
    slice_factor: float = 3.0
    least_rows: int = 200

    def of(self, metric: str, slice_name: str) -> float:
        """The tolerance of a metric on a slice."""
        value = {
            RECALL: self.recall_at_100,
            NDCG: self.ndcg_at_10,
            AUC: self.auc,
            CALIBRATION: self.calibration_error,
        }[metric]
        return value if slice_name == ALL else value * self.slice_factor


@dataclass(frozen=True)
class Gate:
    """One metric on one slice. passed: None where it was not judged, for the reason in `note`."""

    slice: str
    metric: str
    rows: int
    stable: float | None
    candidate: float | None
    tolerance: float
    passed: bool | None
    note: str = ""

    @property
    def worse_by(self) -> float | None:
        """How much worse the candidate is; negative where it is better."""
        if self.stable is None or self.candidate is None:
            return None
        change = self.candidate - self.stable
        return (-change if HIGHER_IS_BETTER[self.metric] else change) + 0.0  # no minus before a zero


@dataclass(frozen=True)
class Verdict:
    """All gates of one candidate, against the version that it would replace."""

    stable: str
    candidate: str
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """Whether no gate failed, and at least one was judged."""
        judged = [gate.passed for gate in self.gates if gate.passed is not None]
        return bool(judged) and all(judged)

    @property
    def failures(self) -> tuple[Gate, ...]:
        """The gates that failed."""
        return tuple(gate for gate in self.gates if gate.passed is False)

    @property
    def reason(self) -> str:
        """Why it failed, in a sentence a gate; empty where it passed."""
        if self.passed:
            return ""
        if not self.failures:
            return "nothing could be judged"
        return "; ".join(
            f"{gate.metric} on {gate.slice}: {gate.candidate:.4f} against {gate.stable:.4f}, "
            f"worse by {gate.worse_by:.4f} (tolerance {gate.tolerance:.4f})"
            for gate in self.failures
        )

    def metrics(self, slice_name: str = ALL) -> dict[str, float]:
        """The candidate's figures on a slice."""
        found = {gate.metric: gate.candidate for gate in self.gates if gate.slice == slice_name}
        return {metric: value for metric, value in found.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"passed": self.passed, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """From JSON."""
        return cls(values["stable"], values["candidate"], tuple(Gate(**gate) for gate in values["gates"]))

    def to_markdown(self) -> str:
        """A table, a row a gate, with a line that says what was decided."""
        lines = [
            f"**{'passed' if self.passed else 'refused'}**: {self.candidate} against {self.stable}"
            + (f"; {self.reason}" if self.reason else ""),
            "",
            "| slice | rows | metric | serving | fine-tuned | worse by | tolerance | |",
            "| --- | ---: | --- | ---: | ---: | ---: | ---: | --- |",
        ]
        for gate in self.gates:
            verdict = {True: "passed", False: "**failed**", None: f"not judged: {gate.note}"}[gate.passed]
            numbers = " | ".join(_number(value) for value in (gate.stable, gate.candidate, gate.worse_by))
            lines.append(
                f"| {gate.slice} | {gate.rows:,} | {gate.metric} | {numbers} | {gate.tolerance:.4f} | {verdict} |"
            )
        return "\n".join([*lines, ""])


def judge(
    stable: tuple[str, Measured],
    candidate: tuple[str, Measured],
    slices: Slices,
    metrics_judged: Sequence[str],
    tolerances: Tolerances,
) -> Verdict:
    """Hold the candidate's figures against the serving version's; each is (version, figures)."""
    gates = []
    for name, chosen in slices.items():
        rows = int(chosen.sum())
        for metric in metrics_judged:
            before, after = stable[1].get(name, {}).get(metric), candidate[1].get(name, {}).get(metric)
            tolerance = tolerances.of(metric, name)
            gate = Gate(name, metric, rows, before, after, tolerance, None)
            note = ""
            passed: bool | None = None
            if before is None or after is None:
                note = "not defined on these rows"
            elif not math.isfinite(before) or not math.isfinite(after):
                passed = False
            elif name != ALL and rows < tolerances.least_rows:
                note = f"fewer than {tolerances.least_rows} rows"
            else:
                worse = gate.worse_by
                passed = worse is not None and worse <= tolerance
            gates.append(Gate(name, metric, rows, before, after, tolerance, passed, note))
    return Verdict(stable[0], candidate[0], tuple(gates))


def judged_rows(rows: pa.Table, tables: Sequence[ItemTable], at_most: int, seed: int) -> pa.Table:
    """A seeded sample of the rows whose items all tables know.

    Raises EvaluationError where there is none.
    """
    known = np.ones(len(rows), bool)
    for table in tables:
        known &= table.positions(rows.column("item_id")) != UNKNOWN
    at = np.flatnonzero(known)
    if not len(at):
        raise EvaluationError(
            f"none of the {len(rows)} held-out rows has an item that both versions know; hold out more of the day"
        )
    if len(at) > at_most:
        at = np.sort(np.random.default_rng(seed).choice(at, at_most, replace=False))
    return rows.take(pa.array(at))


def slices_of(rows: pa.Table, user_transform: UserTransform, items: ItemTable) -> dict[str, Mask]:
    """All rows; users and items without a row of their own; each device, and none."""
    positions = items.positions(rows.column("item_id"))
    devices = rows.column("device_type").to_pylist()
    slices: dict[str, Mask] = {
        ALL: np.ones(len(rows), bool),
        NEW_USERS: user_transform.transform(rows).categorical[:, 0] == OOV,
        NEW_ITEMS: items.categorical[positions, 0] == OOV,
    }
    for device in DEVICES:
        slices[device] = np.array([one == device for one in devices], bool)
    slices["unknown device"] = np.array([one not in DEVICES for one in devices], bool)
    return slices


def measure_retrieval(
    rows: pa.Table,
    retrieval: Retrieval,
    slices: Slices,
    *,
    source: InteractionSource | None = None,
    threads: int | None = 1,
) -> Measured:
    """Recall@100 of each slice. source: holds the rows' users' earlier events, for a tower that reads them."""
    with torch_threads(threads):
        found = candidates_of(rows, retrieval, source, 100)
    place = {item_id: n for n, item_id in enumerate(retrieval.item_ids)}
    wanted = np.array([place.get(item, UNKNOWN) for item in rows.column("item_id").to_pylist()], np.int32)
    recall = metrics.recall_at_k(metrics.hits_of(found, wanted), 100)
    return {name: {RECALL: float(recall[chosen].mean())} if chosen.any() else {} for name, chosen in slices.items()}


def measure_ranker(
    rows: pa.Table,
    retrieval: Retrieval,
    ranker: Ranker,
    slices: Slices,
    *,
    source: InteractionSource | None = None,
    candidates: int = 300,
    seed: int = 0,
    threads: int | None = 2,
) -> Measured:
    """NDCG@10 of retrieval's candidates in the ranker's order; AUC and calibration on a click and five uniform items.

    `seed` draws the latter: the same items for two rankers whose tables are the same.
    source: holds the rows' users' earlier events, for models that read them
    """
    with torch_threads(threads):
        ranked, scores = _rank(rows, retrieval, ranker, source, candidates, seed)
    wanted = ranker.items.positions(rows.column("item_id"))
    gain = metrics.ndcg_at_k(metrics.hits_of(ranked, wanted), 10)
    labels = np.zeros(scores.shape, bool)
    labels[:, 0] = True
    measured: dict[str, dict[str, float]] = {}
    for name, chosen in slices.items():
        if not chosen.any():
            measured[name] = {}
            continue
        flat, values = labels[chosen].ravel(), scores[chosen].ravel()
        measured[name] = {
            NDCG: float(gain[chosen].mean()),
            AUC: metrics.auc(flat, values),
            CALIBRATION: metrics.calibration_error(flat, values),
        }
    return measured


def candidates_of(
    rows: pa.Table, retrieval: Retrieval, source: InteractionSource | None, count: int
) -> NDArray[np.int32]:
    """Positions in retrieval's order of items [R, K], -1 where a list ends."""
    _, found = retrieval.index.search(queries_of(retrieval, rows, source), count)
    return found


def _rank(
    rows: pa.Table, retrieval: Retrieval, ranker: Ranker, source: InteractionSource | None, candidates: int, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Ranked positions of the ranker's table [R, K], and probabilities of each row's item and its negatives."""
    table = ranker.items
    in_table = np.append(table.positions(retrieval.item_ids), UNKNOWN)  # the last for padding, -1
    retrieved = in_table[candidates_of(rows, retrieval, source, candidates)]  # [R, K]
    wanted = table.positions(rows.column("item_id"))
    drawn = np.random.default_rng(seed).integers(0, len(table), (len(rows), NEGATIVES))
    if len(table) > 1:
        # Uniform over the others: a draw that met the row's own item takes the next one.
        drawn = np.where(drawn == wanted[:, None], (drawn + 1) % len(table), drawn)
    scored = np.concatenate([wanted[:, None], drawn], axis=1)  # [R, 1 + NEGATIVES]
    both = np.concatenate([np.maximum(retrieved, 0), scored], axis=1)
    chances = chances_of(rows, ranker, both, source)
    width = retrieved.shape[1]
    order = np.argsort(np.where(retrieved < 0, 1.0, -chances[:, :width]), axis=1, kind="stable")
    return np.take_along_axis(retrieved, order, axis=1), chances[:, width:]


def chances_of(
    rows: pa.Table, ranker: Ranker, positions: NDArray[np.integer], source: InteractionSource | None
) -> NDArray[np.float32]:
    """Click probabilities of items for rows, as of the rows' own moments: float32 [R, C].

    positions: [R, C] in the ranker's item table; source: holds the rows' users' earlier events, for a ranker that
    reads them
    """
    table = ranker.items
    users, where = ranker.user_transform.transform(rows), ranker.context_transform.transform(rows)
    moments = np.asarray(rows.column("timestamp"), np.int64)
    affinity = ranker.dlrm.affinity_over(table)
    histories = None
    if ranker.dlrm.events_read and source is not None:
        histories = histories_of_rows(rows, source, table.item_ids)
    chances = np.empty(positions.shape, np.float32)
    for start in range(0, len(rows), _CHUNK):
        part = positions[start : start + _CHUNK]
        mine = slice(start, start + len(part))
        of_rows = None if histories is None else histories.take(mine)
        at = np.repeat(np.arange(start, start + len(part)), part.shape[1])
        flat = part.ravel()
        user, context = users.take(at), where.take(at)
        offset = None
        if affinity is not None:
            offset = row_affinities(affinity, users.take(mine), where.take(mine), of_rows, moments[mine], part).ravel()
        chances[start : start + _CHUNK] = ranker.dlrm.predict(
            np.concatenate([user.categorical, table.categorical[flat], context.categorical], axis=1),
            np.concatenate([user.continuous, table.continuous[flat], context.continuous], axis=1),
            table.image[flat],
            table.text[flat],
            ranker_histories(ranker.dlrm.config, of_rows, moments[mine], table),
            at - start,
            offset,
        ).reshape(part.shape)
    return chances


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
