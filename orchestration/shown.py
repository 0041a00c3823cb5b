"""What logged lists showed, clicked or not, for the ranker to learn from beside the interactions.

It lies beside the rows of the same days, encoded, in the folder of the asset that holds those.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cascade.features.item_table import ItemTable
from cascade.features.shown_rows import shown_rows
from cascade.features.transforms import ContextTransform, UserTransform
from orchestration.assets.features import limits
from orchestration.forgotten import Forgotten
from orchestration.workspace import Workspace

if TYPE_CHECKING:
    from cascade.training.impressions import Impressions

_FOLDER = "shown"


def write_shown(
    workspace: Workspace,
    days: Sequence[date],
    clicks: int,
    items: ItemTable,
    folder: Path,
    *,
    until: int | None = None,
    seed: int,
) -> int:
    """Encode a seeded sample of what the lists of these days showed, into `folder`; returns how much.

    clicks: the interactions that are learned from; `shown_per_click` of the settings bounds the sample by them
    until: UTC seconds; what was shown from then on is left out, as its clicks are what a model is judged by
    """
    from cascade.training.impressions import Impressions

    settings = workspace.settings
    wanted = round(clicks * settings.shown_per_click)
    if not wanted or not set(days) & set(workspace.dataset.impression_days()):
        return 0
    shown = Forgotten.of(workspace).out_of(workspace.dataset.impressions(days))
    if until is not None:
        shown = shown.filter(pc.less(shown.column("timestamp"), until))
    if len(shown) > wanted:
        shown = shown.take(pa.array(np.sort(np.random.default_rng(seed).permutation(len(shown))[:wanted])))
    if not len(shown):
        return 0
    path = folder / "shown.parquet"
    shown_rows(workspace.dataset, shown, path, weights=settings.event_weights, limits=limits(workspace))
    read = Impressions.read(
        path,
        UserTransform.load(workspace.folder("user_transform")),
        ContextTransform.load(workspace.folder("context_transform")),
        items,
        workspace.dataset if settings.training_query == "session" else None,
    )
    path.unlink()
    (folder / _FOLDER).mkdir()
    read.save(folder / _FOLDER)
    return len(read)


def read_shown(folder: Path) -> Impressions | None:
    """What `write_shown` wrote there; None: it wrote nothing."""
    from cascade.training.impressions import Impressions

    return Impressions.load(folder / _FOLDER) if (folder / _FOLDER).is_dir() else None
