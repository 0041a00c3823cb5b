"""The built-in shop's lists beside what is wanted of them: near the oracle, and better for what is read.

The release is the bench's own build of `small`. Beside its `session` towers `static` and `context` ones are trained on
the same rows. Judged as what is served: items met before are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from bench.report import Report
from bench.system import built, settings_of, state_folder
from cascade.data.generator import Shop
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from cascade.index.build import build_index
from cascade.models.dlrm import Dlrm
from cascade.models.two_tower import Mode, TwoTower
from cascade.online.server import free_port
from cascade.store.artifacts import RankerArtifacts, RetrievalArtifacts
from cascade.training.answers import CASCADE, TWO_TOWER, Stages, negatives_of
from cascade.training.contestants import POPULARITY, RECENT
from cascade.training.evaluation import Scope, evaluate
from cascade.training.query_rows import two_tower_config
from cascade.training.questions import History, Questions, ask
from cascade.training.report import EvaluationReport, EvaluationRow
from cascade.training.slices import ALL, COLD, KNOWN_ITEMS, NEW_ITEMS
from cascade.training.two_tower_training import TwoTowerTraining, train_two_tower
from cascade.training.validation import hold_out
from orchestration.assets.features import ROWS
from orchestration.assets.training import TWO_TOWER_ROWS
from orchestration.catalog import Catalog, full_catalog, retrieval_parts
from orchestration.graph import base_assets
from orchestration.provenance import Provenance
from orchestration.workspace import Workspace

MODES: tuple[Mode, ...] = ("static", "context", "session")
ASKED, VISITORS = 6_000, 400
SEED = 7
CLICKS, LATELY, WANTED = 5, 45, 4
"""Clicks in a category that nobody of the last LATELY events is of; how many of the next ten are to be of it."""


@dataclass(frozen=True)
class Release:
    """The build's models and what they were made of."""

    workspace: Workspace
    catalog: Catalog
    ranker: RankerArtifacts
    towers: TwoTower

    @classmethod
    def of_bench(cls) -> Release:
        """The bench's build, built where it is not."""
        settings = settings_of(built(state_folder()), free_port())
        workspace = Workspace(settings, Provenance(base_assets(settings), settings))
        catalog, folder = full_catalog(workspace), workspace.folder
        ranker = RankerArtifacts(
            UserTransform.load(folder("user_transform")),
            ContextTransform.load(folder("context_transform")),
            catalog.items,
            Dlrm.load(folder("dlrm")),
        )
        return cls(workspace, catalog, ranker, TwoTower.load(folder("two_tower")))

    def towers_of(self, mode: Mode) -> TwoTower:
        """Of a mode: the release's own, or trained on the same rows as the build trains them."""
        if mode == self.towers.config.mode:
            return self.towers
        ranker, folder = self.ranker, self.workspace.folder
        learned, judged = hold_out(TrainingSet.load(folder("training_set")), SEED)
        item = ItemTransform.load(folder("item_transform"))
        training = TwoTowerTraining()
        towers, _ = train_two_tower(
            learned,
            judged,
            self.catalog.items,
            two_tower_config(mode, ranker.user_transform, item, ranker.context_transform),
            replace(training, loop=training.loop.meeting(len(learned), TWO_TOWER_ROWS)),
            seed=SEED,
            threads=1,
        )
        return towers

    def retrieval(self, towers: TwoTower) -> RetrievalArtifacts:
        """The stage of these towers."""
        items = self.catalog.items
        vectors = towers.candidate.predict(items.categorical, items.continuous, items.image, items.text)
        index, _ = build_index(vectors, source=towers.candidate.fingerprint(), seed=SEED)
        return retrieval_parts(self.workspace, towers.query, replace(self.catalog, index=index))


def run(report: Report) -> None:
    """Each mode's lists, those of the release, and what five clicks change."""
    torch.set_num_threads(1)
    release = Release.of_bench()
    asked = ASKED // 6 if report.quick else ASKED
    stages = {mode: release.retrieval(release.towers_of(mode)) for mode in MODES}
    found = {mode: _evaluated(release, stage, asked) for mode, stage in stages.items()}
    session, context, static = found["session"], found["context"], found["static"]
    rows = _row(session, CASCADE, ALL).rows
    report.say(
        f"`small`, the build's models (seed {SEED}), {rows:,} rows of the evaluation day whose items were not met "
        "before, items met left out of the lists. `static` and `context` towers were trained on the same rows, once "
        "each. In brackets the 95 % interval over users."
    )
    names = ("recall@10", "recall@100", "recall@300", "ndcg@10", "oracle_share", "oracle_top10")
    answers = [(f"`{mode}` towers alone", _row(of, TWO_TOWER, ALL)) for mode, of in found.items()]
    answers += [("the cascade", _row(session, CASCADE, ALL)), ("oracle", _row(session, "oracle", ALL))]
    answers += [(f"nobody known: `{mode}` towers alone", _row(of, TWO_TOWER, COLD)) for mode, of in found.items()]
    answers += [(f"nobody known: {name}", _row(session, name, COLD)) for name in (CASCADE, POPULARITY, "oracle")]
    answers += [(f"{part}: {name}", _row(session, name, part)) for part in (NEW_ITEMS, KNOWN_ITEMS)
                for name in (TWO_TOWER, CASCADE)]  # fmt: skip
    report.table(("lists", "rows", *names), [(name, f"{row.rows:,}", *_cells(row, names)) for name, row in answers])

    def share(of: EvaluationReport, model: str, metric: str, part: str = ALL) -> float:
        return _row(of, model, part).metrics[metric]

    whole = _row(session, CASCADE, ALL)
    low, high = whole.intervals["ndcg@10"]
    best = share(session, "oracle", "ndcg@10")
    report.figure(
        "oracle.ndcg", whole.metrics["oracle_share"], "of the oracle's", at_least=0.9,
        note=f"cascade's ndcg@10, 95 % interval {low / best:.3f} to {high / best:.3f}",
    )  # fmt: skip
    found_of_ten = share(session, TWO_TOWER, "oracle_top10")
    report.figure("oracle.in_candidates", found_of_ten, "of the oracle's ten", at_least=0.98)
    report.figure(
        "session.over_static", share(session, TWO_TOWER, "recall@10") / share(static, TWO_TOWER, "recall@10"), "x",
        at_least=1.15, note="recall@10 of the towers alone",
    )  # fmt: skip
    cold = share(context, TWO_TOWER, "ndcg@10", COLD)
    report.figure(
        "context.over_static", cold / share(static, TWO_TOWER, "ndcg@10", COLD), "x", at_least=1.1,
        note="ndcg@10 for visitors nobody knows, towers alone",
    )  # fmt: skip
    report.figure("context.over_popularity", cold / share(session, POPULARITY, "ndcg@10", COLD), "x", at_least=1.2)
    for model, name in ((CASCADE, "cascade"), (TWO_TOWER, "towers")):
        new = _row(session, model, NEW_ITEMS)
        report.figure(
            f"new_items.{name}", new.metrics["recall@100"] / share(session, model, "recall@100", KNOWN_ITEMS), "x",
            at_least=0.5, note=f"recall@100 beside known items', {new.rows} rows",
        )  # fmt: skip
    report.figure("calibration", share(session, CASCADE, "calibration_error"), "", at_most=0.02)
    of_category = after_clicks(release, stages["session"], VISITORS)
    report.figure(
        "after_clicks", float(of_category.mean()), "of ten", at_least=WANTED,
        note=f"items of a category after {CLICKS} clicks in it, by {len(of_category)} visitors none of whose last "
        f"{LATELY} events is of it; {(of_category >= WANTED).mean():.0%} of them have {WANTED} or more",
    )  # fmt: skip


def _evaluated(release: Release, retrieval: RetrievalArtifacts, rows: int) -> EvaluationReport:
    workspace = release.workspace
    settings, split = workspace.settings, workspace.split()
    return evaluate(
        workspace.dataset,
        retrieval,
        release.ranker,
        split.train,
        split.evaluate,
        Shop.oracle_of(settings.dataset_dir),
        Scope(max_rows=rows, exclude_seen=True, baselines=(POPULARITY, RECENT)),
        seed=settings.seed,
        weights=settings.event_weights,
        rows_file=workspace.folder("evaluation_rows") / ROWS,
    )


def after_clicks(release: Release, retrieval: RetrievalArtifacts, visitors: int) -> NDArray[np.int64]:
    """How many of the first ten of the cascade are of a category that each visitor has just clicked in, int [V]."""
    workspace, items = release.workspace, release.catalog.items
    settings, rng = workspace.settings, np.random.default_rng(SEED)
    asked, _ = ask(
        workspace.dataset,
        workspace.split().evaluate,
        items,
        max_rows=10**9,
        seed=settings.seed,
        weights=settings.event_weights,
        rows_file=workspace.folder("evaluation_rows") / ROWS,
    )
    _, first = np.unique(asked.user_codes, return_index=True)
    known = first[asked.history.counts[first] > 0]
    asked = asked.take(np.sort(rng.permutation(known)[:visitors]))
    catalog = workspace.dataset.items()
    named = dict(zip(*(catalog.column(name).to_pylist() for name in ("item_id", "category_l1")), strict=True))
    category = np.array([named.get(item) or "" for item in items.item_ids], object)
    wanted = _unmet_categories(asked, category, rng)
    asked = _with_clicks(asked, category, wanted, np.array(items.item_ids, object), rng)
    asked = asked.with_top_category(catalog, settings.event_weights)
    stages = Stages(retrieval, release.ranker, items, candidates=300, exclude_seen=True)
    top = stages.answers(asked, negatives_of(asked, len(items), SEED))[CASCADE].ranked[:, :10]
    of: NDArray[np.int64] = (category[top] == wanted[:, None]).sum(axis=1)
    return of


def _unmet_categories(asked: Questions, category: NDArray[np.object_], rng: np.random.Generator) -> NDArray[np.object_]:
    """A category of enough items for each row, of which none of its last events is."""
    names, counts = np.unique(category[category != ""].astype(str), return_counts=True)
    large = names[counts >= 10 + CLICKS]
    chosen = []
    for row in range(len(asked)):
        lately = set(category[asked.history.seen(row)[-LATELY:]])
        chosen.append(rng.choice([name for name in large if name not in lately]))
    return np.array(chosen, object)


def _with_clicks(
    asked: Questions,
    category: NDArray[np.object_],
    wanted: NDArray[np.object_],
    ids: NDArray[np.object_],
    rng: np.random.Generator,
) -> Questions:
    """The rows after clicks on items of the wanted category that were not met, one a second, the last a second ago."""
    history, moments = asked.history, np.asarray(asked.table.column("timestamp"), np.int64)
    parts: list[list[NDArray[np.generic]]] = [[], [], [], []]
    for row, name in enumerate(wanted):
        before = slice(history.start[row], history.end[row])
        unmet = np.setdiff1d(np.flatnonzero(category == name), history.seen(row))
        clicked = rng.choice(unmet, CLICKS, replace=False)
        earlier = np.minimum(history.timestamp[before], moments[row] - CLICKS - 1)
        parts[0].append(np.append(history.item_id[before], ids[clicked]))
        parts[1].append(np.append(history.event_type[before], np.full(CLICKS, "click", object)))
        parts[2].append(np.append(history.position[before], clicked.astype(np.int32)))
        parts[3].append(np.append(earlier, moments[row] - np.arange(CLICKS, 0, -1)))
    ends = np.cumsum([len(part) for part in parts[0]])
    starts = ends - np.array([len(part) for part in parts[0]])
    joined = [np.concatenate(part) for part in parts]
    return replace(asked, history=History(*joined, starts, ends))  # type: ignore[arg-type]


def _row(report: EvaluationReport, model: str, part: str) -> EvaluationRow:
    return next(row for row in report.rows if row.model == model and row.slice == part)


def _cells(row: EvaluationRow, names: tuple[str, ...]) -> list[str]:
    cells = []
    for name in names:
        cell = f"{row.metrics[name]:.3f}" if name in row.metrics else ""
        if name in ("recall@10", "ndcg@10") and name in row.intervals:
            cell += " ({:.3f} to {:.3f})".format(*row.intervals[name])
        cells.append(cell)
    return cells
