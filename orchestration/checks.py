"""Asset checks: what must hold before anything is built on an asset.

Those about the data and the index are blocking: a note beside the artifact tells that they have passed (`passed.py`),
and nothing is made of an artifact without it. Those about a model's quality fail visibly without stopping a first
release, since a shop without any bundle has nothing better to serve; releases after the first are gated.
"""

from collections.abc import Callable

import dagster as dg
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestration import passed
from orchestration.assets.drift import feature_drift, shown
from orchestration.assets.drift import read_report as read_drift
from orchestration.assets.evaluation import evaluation, read_report
from orchestration.assets.features import ROWS, evaluation_rows, training_rows
from orchestration.assets.training import candidate_index, user_queries
from orchestration.workspace import Workspace

INTERACTIONS = dg.AssetKey("interactions")

Judge = Callable[[Workspace], dg.AssetCheckResult]


def blocking(asset: dg.AssetKey | dg.AssetsDefinition) -> Callable[[Judge], dg.AssetChecksDefinition]:
    """Makes a blocking check of a function, which is noted beside the artifact where it passes."""
    name = (asset if isinstance(asset, dg.AssetKey) else asset.key).to_user_string()

    def decorate(judge: Judge) -> dg.AssetChecksDefinition:
        @dg.asset_check(asset=asset, name=judge.__name__, description=judge.__doc__, blocking=True)
        def check(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
            artifact = workspace.folder(name)
            judged = passed.seal(artifact)
            result = judge(workspace)
            passed.note(artifact, judge.__name__, judged if result.passed else None)
            return result

        return check

    return decorate


@blocking(INTERACTIONS)
def every_day_has_rows(workspace: Workspace) -> dg.AssetCheckResult:
    """No day that training or evaluation reads is empty."""
    rows = {
        day.isoformat(): sum(pq.read_metadata(file).num_rows for file in workspace.dataset.interaction_files([day]))
        for day in workspace.dataset.days(base_only=True)
    }
    empty = [day for day, count in rows.items() if count == 0]
    return dg.AssetCheckResult(passed=bool(rows) and not empty, metadata={"rows": rows, "empty_days": empty})


@blocking(training_rows)
def no_leakage_in_training(workspace: Workspace) -> dg.AssetCheckResult:
    """No feature is newer than its row, and no row is of an evaluation day."""
    return _no_leakage(workspace, "training_rows")


@blocking(evaluation_rows)
def no_leakage_in_evaluation(workspace: Workspace) -> dg.AssetCheckResult:
    """No feature is newer than its row."""
    return _no_leakage(workspace, "evaluation_rows")


@blocking(candidate_index)
def index_reaches_recall_target(workspace: Workspace) -> dg.AssetCheckResult:
    """The saved index finds what exact search finds, for other users than those it was tuned with.

    Two standard errors are the sample's own: below the target beyond them, it fails.
    """
    from cascade.index.interface import CandidateIndex
    from cascade.index.recall import Truth
    from orchestration.assets.embeddings import load_vectors

    queries = user_queries(workspace, workspace.settings.seed + 1)
    truth = Truth.of(load_vectors(workspace.folder("item_vectors")), queries, 300)
    shares = truth.recall(CandidateIndex.load(workspace.folder("candidate_index")))
    recall, error = float(shares.mean()), float(shares.std() / np.sqrt(len(shares)))
    target = workspace.settings.recall_target
    return dg.AssetCheckResult(
        passed=recall + 2 * error >= target,
        metadata={"recall_at_300": recall, "standard_error": error, "target": target},
    )


@dg.asset_check(asset=evaluation)
def two_tower_beats_popularity(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """Recall@100 of the two-tower model is above that of popularity."""
    recall = read_report(workspace.folder("evaluation"))["summary"]
    ours, theirs = recall["two_tower_recall_at_100"], recall["popularity_recall_at_100"]
    return dg.AssetCheckResult(passed=ours > theirs, metadata={"two_tower": ours, "popularity": theirs})


@dg.asset_check(asset=evaluation)
def ranker_auc_above_chance(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """The ranker's AUC on clicks and sampled negatives is above 0.5 by the margin that the settings state."""
    auc = read_report(workspace.folder("evaluation"))["summary"]["ranker_auc"]
    least = 0.5 + workspace.settings.auc_margin
    return dg.AssetCheckResult(passed=auc > least, metadata={"auc": auc, "least": least})


@dg.asset_check(asset=feature_drift)
def serving_is_like_training(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """No feature or score of what serves has a stability index above 0.25, and there were visitors enough to tell."""
    report = read_drift(workspace)
    return dg.AssetCheckResult(
        passed=report.passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=report.summary,
        metadata={
            "drifted": [f"{one.model} {one.feature}" for one in report.of("drifted")],
            "to_watch": [f"{one.model} {one.feature}" for one in report.of("watch")],
            "too_few": [f"{one.model} {one.feature}" for one in report.of("too few")],
            "least_visitors": report.min_visitors,
            **shown(report),
        },
    )


def _no_leakage(workspace: Workspace, asset: str) -> dg.AssetCheckResult:
    split = workspace.split()
    days = split.train if asset == "training_rows" else split.evaluate
    path = workspace.folder(asset) / ROWS
    table = pq.read_table(path, columns=["timestamp", "feature_timestamp"])
    newer = pc.sum(pc.greater_equal(table.column("feature_timestamp"), table.column("timestamp"))).as_py() or 0
    seconds = pc.divide(table.column("timestamp"), 86_400)
    first, last = (day.toordinal() - EPOCH_ORDINAL for day in (days[0], days[-1]))
    outside = len(table) - (
        pc.sum(pc.and_(pc.greater_equal(seconds, first), pc.less_equal(seconds, last))).as_py() or 0
    )
    return dg.AssetCheckResult(
        passed=newer == 0 and outside == 0 and len(table) > 0,
        metadata={"rows": len(table), "features_not_older_than_their_row": newer, "rows_of_other_days": outside},
    )


EPOCH_ORDINAL = 719_163
"""date(1970, 1, 1).toordinal()"""

ALL = [
    every_day_has_rows,
    no_leakage_in_training,
    no_leakage_in_evaluation,
    index_reaches_recall_target,
    two_tower_beats_popularity,
    ranker_auc_above_chance,
    serving_is_like_training,
]


def _by_asset(checks: list[dg.AssetChecksDefinition]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for spec in (spec for definition in checks for spec in definition.check_specs if spec.blocking):
        asset = spec.asset_key.to_user_string()
        found[asset] = (*found.get(asset, ()), spec.name)
    return found


BLOCKING = _by_asset(ALL)
"""Asset → its blocking checks."""
