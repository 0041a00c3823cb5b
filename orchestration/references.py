"""References of bundles: what their models were trained on, for drift to be told by.

The full training's are of its training set, and of lists made for the evaluation rows, which it has not learned from; a
day's are of what it was fine-tuned on, and of lists made for the day's rows.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

from cascade.drift.reference import Reference
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import ItemTransform
from cascade.store.artifacts import RankerArtifacts, RetrievalArtifacts
from orchestration.assets.features import ROWS
from orchestration.workspace import Workspace

TRAIN = "train"
"""The rows that a day's models learn from, in the folder of `fine_tuning_set`."""


def of_retrieval(workspace: Workspace, parts: RetrievalArtifacts, day: date | None = None) -> Reference:
    """Of retrieval's parts. day: that they were fine-tuned on; None: they are the full training's."""
    from cascade.training.drift import retrieval_reference

    learned, rows = _rows(workspace, day)
    settings = workspace.settings
    return retrieval_reference(learned, rows, parts, workspace.dataset, settings.seed, settings.training_threads)


def of_ranker(
    workspace: Workspace, retrieval: RetrievalArtifacts, parts: RankerArtifacts, day: date | None = None
) -> Reference:
    """Of the ranker's parts, over the candidates of this retrieval; else likewise."""
    from cascade.training.drift import ranker_reference

    learned, rows = _rows(workspace, day)
    items = ItemTransform.load(workspace.folder("item_transform"))
    settings = workspace.settings
    return ranker_reference(
        learned, rows, retrieval, parts, items, workspace.dataset, settings.seed, settings.training_threads
    )


def _rows(workspace: Workspace, day: date | None) -> tuple[TrainingSet, Path]:
    if day is None:
        return TrainingSet.load(workspace.folder("training_set")), workspace.folder("evaluation_rows") / ROWS
    learned = TrainingSet.load(workspace.folder("fine_tuning_set", day.isoformat()) / TRAIN)
    return learned, workspace.folder("daily_rows", day.isoformat()) / ROWS
