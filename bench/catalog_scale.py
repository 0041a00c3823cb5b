"""Candidate indexes from ten thousand to a million items: what each structure costs for the recall it gives.

Vectors: bench/vectors.py. Every search is for 300 of one query, on one thread; the queries of a pass are all
different, so that caches hold what they hold in a shop. Builds use all cores but for the graphs, which one thread
builds. The queries that a choice was tuned with are never those that it is judged by.
"""

from __future__ import annotations

import math
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench import vectors
from bench.figures import shown
from bench.report import Report
from bench.vectors import Floats
from cascade.index import CandidateIndex, FaissIndex, IndexChoice, build_index
from cascade.index.choose import GRAPH_UP_TO
from cascade.index.cost import FLAT, flat_microseconds, microseconds
from cascade.index.recall import Truth
from cascade.index.structures import STRUCTURES, Effort, Structure, Stuff, inverted_file

SIZES = (10_000, 100_000, 1_000_000)
K, TARGET, SEED = 300, 0.97, 11
TUNED, JUDGED = 512, 400
POINTS = 18
"""Of a curve, at most: efforts from the least to where the recall no longer matters."""
ENOUGH = 0.995
GRAPH_SECONDS = 150.0
"""For the graphs of one size: one that is expected to need more than is left is left out, and the page says so."""

NAMES = {10_000: "10k", 100_000: "100k", 1_000_000: "1m"}


@dataclass(frozen=True)
class Point:
    """One effort of a structure."""

    effort: Effort
    recall: float
    p50: float
    p99: float
    predicted: float
    """milliseconds, all three"""


@dataclass
class Built:
    """A structure at one size: what it took, and its curve."""

    structure: str
    seconds: float
    megabytes: float
    curve: list[Point] = field(default_factory=list)

    @property
    def at_target(self) -> Point | None:
        """The quickest that reaches the target."""
        return min((point for point in self.curve if point.recall >= TARGET), key=lambda one: one.p50, default=None)


def run(report: Report) -> None:
    """Each size: the choice, then every structure's curve."""
    sizes = SIZES[:2] if report.quick else SIZES
    report.say(*_INTRODUCTION)
    made: dict[int, list[Built]] = {}
    choices: dict[int, IndexChoice] = {}
    for count in sizes:
        report.say(f"## {count:,} items")
        catalog = vectors.make(count, TUNED + JUDGED, SEED)
        tuned, judged = catalog.queries[:TUNED], catalog.queries[TUNED:]
        choices[count] = _choice(report, count, catalog.items, tuned, judged)
        earlier = made[sizes[sizes.index(count) - 1]] if made else []
        made[count] = _curves(report, count, catalog.items, judged, earlier)
        if count == sizes[-1]:
            report.say("How hard these vectors are (the built-in shop's trained towers in `docs/candidate-index.md`):")
            report.table(["", "value"], [(name, shown(value)) for name, value in vectors.describe(catalog).items()])
    _growth(report, made)
    report.say("## What was chosen, and why")
    report.table(
        ["items", "chosen", "because"], [(f"{count:,}", one.kind, one.reason) for count, one in choices.items()]
    )


def _choice(report: Report, count: int, items: Floats, tuned: Floats, judged: Floats) -> IndexChoice:
    """build_index, as the asset calls it, judged by queries that it has not seen."""
    name = NAMES[count]
    started = time.perf_counter()
    index, choice = build_index(items, TARGET, queries=tuned, seed=SEED)
    seconds = time.perf_counter() - started
    assert isinstance(index, FaissIndex)
    index.threads = 1
    recall = float(Truth.of(items, judged, K).recall(index).mean())
    passes = [_times(index, judged) for _ in range(3 if report.quick else 7)]
    largest = count == SIZES[-1]
    report.figure(f"{name}.chosen.recall", recall, "share", at_least=TARGET, note=choice.kind)
    report.figure(
        f"{name}.chosen.p50", [float(np.percentile(one, 50)) for one in passes], "ms",
        at_most=1.0 if largest else None, note=f"{choice.kind}, one thread",
    )  # fmt: skip
    report.figure(f"{name}.chosen.p99", [float(np.percentile(one, 99)) for one in passes], "ms", note=choice.kind)
    report.figure(f"{name}.chosen.build", seconds, "s", note="choosing, building and measuring")
    report.figure(f"{name}.chosen.memory", _megabytes(index), "MB", note="of the saved index, as it lies in memory")
    report.say(f"Chosen: {choice.reason}.")
    if largest:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        report.say(f"The process's memory never exceeded {peak:,.0f} MB until here, the vectors' own included.")
    _profile(report, index, judged)
    return choice


def _profile(report: Report, index: FaissIndex, queries: Floats) -> None:
    """Where the time of a search goes: the library's parts timed alone."""
    if "lists" not in index.parameters:
        return
    inside, whole = inverted_file(index), float(np.median(_times(index, queries)))
    centres = FaissIndex(inside.quantizer, 1)
    parts = {"centres compared, nearest lists taken": float(np.median(_times(centres, queries, int(inside.nprobe))))}
    few = float(np.median(_times(index, queries, 1)))
    parts["lists scanned, k = 1"] = max(0.0, few - sum(parts.values()))
    parts[f"the rest: the {K} best kept and sorted, checks"] = max(0.0, whole - sum(parts.values()))
    report.say("Where the time goes:")
    report.table(
        ["part", "ms", "share"],
        [(part, shown(spent), f"{spent / whole:.0%}") for part, spent in parts.items()],
    )


def _curves(report: Report, count: int, items: Floats, queries: Floats, earlier: Sequence[Built]) -> list[Built]:
    """Recall against time, a curve a structure."""
    truth, stuff, made = Truth.of(items, queries, K), Stuff(items, SEED), []
    flat = FaissIndex.flat(items, threads=1)
    # Beyond a large catalog's caches a pass of all queries takes seconds and tells no more than half of them.
    times = _times(flat, queries[: 400 if count <= 100_000 else 100])
    point = Point({}, 1.0, *_percentiles(times), flat_microseconds(count, items.shape[1]) / 1000)
    made.append(Built(FLAT, 0.0, _megabytes(flat), [point]))
    report.figure(f"{NAMES[count]}.flat.p50", point.p50, "ms", note="exact")
    del flat
    started = time.perf_counter()
    stuff.centres(STRUCTURES["ivf_flat"].lists(count))  # type: ignore[attr-defined]
    centres = time.perf_counter() - started
    for name in ("ivf_flat", "ivf_sq8", "ivf_pq", "hnsw", "hnsw_sq8"):
        graphs = sum(one.seconds for one in made if one.structure.startswith("hnsw"))
        if name.startswith("hnsw") and (why := _too_long(name, count, earlier, GRAPH_SECONDS - graphs)):
            report.say(f"`{name}`: {why}")
            continue
        made.append(_curve(STRUCTURES[name], stuff, truth, centres))
    rows = []
    for one in made:
        best = one.at_target
        if one.structure != FLAT and best is not None:
            report.figure(
                f"{NAMES[count]}.{one.structure}.p50", best.p50, "ms", note=f"recall {best.recall:.3f}, {_told(best)}"
            )
        least = ("not reached", "", "", "", "") if best is None else (
            f"{best.recall:.4f}", _told(best), shown(best.p50), shown(best.p99), shown(best.predicted)
        )  # fmt: skip
        rows.append((f"`{one.structure}`", *least, shown(one.seconds), shown(one.megabytes)))
    report.say(f"The quickest of each structure's curve with recall@{K} of {TARGET} or more:")
    report.table(["structure", "recall", "effort", "p50 ms", "p99 ms", "predicted ms", "build s", "memory MB"], rows)
    with report.plot(f"{NAMES[count]}", f"recall@{K}", "p50, ms", f"{count:,} items, one thread") as axes:
        for one in made:
            line = sorted(one.curve, key=lambda point: point.recall)
            style = "D" if one.structure == FLAT else "o-"
            axes.plot([p.recall for p in line], [p.p50 for p in line], style, label=one.structure, markersize=4)
        axes.axvline(TARGET, color="grey", linestyle=":")
        axes.set_yscale("log")
        axes.set_xlim(0.7, 1.005)
    return made


def _curve(structure: Structure, stuff: Stuff, truth: Truth, centres: float) -> Built:
    started = time.perf_counter()
    index = structure.build(stuff)
    inverted = "lists" in index.parameters
    built = Built(structure.name, time.perf_counter() - started + (centres if inverted else 0.0), _megabytes(index))
    index.threads = 1
    # Of several ladders, each with a wider second look, the first that gets there.
    for ladder in structure.efforts(index, K):
        built.curve = _climbed(index, structure, ladder, truth)
        if built.at_target is not None:
            break
    return built


def _climbed(index: FaissIndex, structure: Structure, ladder: Sequence[Effort], truth: Truth) -> list[Point]:
    inverted, curve = "lists" in index.parameters, []
    # Efforts whose lists hold fewer than a few k are of no interest.
    first = 0 if not inverted else next(
        (n for n, effort in enumerate(ladder) if effort["nprobe"] * index.count >= 2 * K * index.parameters["lists"]), 0
    )  # fmt: skip
    for effort in ladder[first :: 3 if inverted else 2]:
        index.set_effort(effort)
        recall = float(truth.recall(index).mean())
        predicted = microseconds(structure.name, structure.work(index, truth.queries, K), index.dim) / 1000
        curve.append(Point(effort, recall, *_percentiles(_times(index, truth.queries[:200])), predicted))
        if recall >= ENOUGH or len(curve) >= POINTS or _level(curve):
            break
    return curve


def _level(curve: Sequence[Point]) -> bool:
    """Whether three steps more have not helped."""
    return len(curve) > 4 and curve[-1].recall - curve[-4].recall < 0.001


def _too_long(name: str, count: int, earlier: Sequence[Built], left: float) -> str:
    """Why a graph is not built at this size; empty where it is."""
    before = next((one for one in earlier if one.structure == name), None)
    if before is None:
        return "" if count <= GRAPH_UP_TO else "not built, for nothing smaller says how long it takes."
    smaller = count // 10
    expected = before.seconds * 10 * math.log(count) / math.log(smaller)
    if expected <= left:
        return ""
    return (
        f"not built: {smaller:,} vectors took {before.seconds:.0f} s, so {count:,} would take about {expected:.0f} s, "
        f"more than is left of the {GRAPH_SECONDS:.0f} s that this bench gives the graphs of a size."
    )


def _growth(report: Report, made: dict[int, list[Built]]) -> None:
    report.say("## Growth")
    with report.plot("growth", "items", "p50, ms", f"recall@{K} ≥ {TARGET}, one thread") as axes:
        for name in (FLAT, *STRUCTURES):
            line = [
                (n, one.at_target.p50)
                for n, all_ in made.items()
                for one in all_
                if one.structure == name and one.at_target
            ]
            if line:
                axes.plot(*zip(*line, strict=True), "o-", label=name, markersize=4)
        axes.set_xscale("log")
        axes.set_yscale("log")


def _times(index: CandidateIndex, queries: Floats, k: int = K) -> list[float]:
    """Milliseconds of each query, alone."""
    spent = []
    for row in range(len(queries)):
        query = queries[row : row + 1]
        started = time.perf_counter()
        index.search(query, k)
        spent.append((time.perf_counter() - started) * 1000)
    return spent


def _percentiles(times: Sequence[float]) -> tuple[float, float]:
    return float(np.percentile(times, 50)), float(np.percentile(times, 99))


def _megabytes(index: CandidateIndex) -> float:
    """Of the saved file, which holds what memory holds."""
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder))
        return sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6


def _told(point: Point) -> str:
    return ", ".join(f"{name} {value:,}" for name, value in point.effort.items())


_INTRODUCTION = (
    "Vectors of 64 dimensions made by `bench/vectors.py`: overlapping families in three levels of categories with "
    "power-law sizes, users between their interests. They are as hard to search as those of the built-in shop's "
    "trained towers, or a little harder, and no query is an item's vector plus a little.",
    f"Single searches for {K} on one thread; recall against exact search, ties counted as found. Memory is that of the "
    "saved index. `predicted` is the cost model that a choice goes by (`cascade/index/cost.py`): counted work times "
    "fixed prices, so that a build on a busy machine chooses as one on an idle machine does.",
)
