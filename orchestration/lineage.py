"""What a day's fine-tuning goes on from, and what it is held against.

The lineage of each model follows its own last day that passed its gates: a day that was refused is kept, and the next
one starts from before it. The first day starts from the full training. Days of another full training do not count.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from cascade.features.item_table import ItemTable
from cascade.store.model_store import STABLE
from orchestration.assets.release import noted_version
from orchestration.catalog import Catalog, full_catalog
from orchestration.workspace import Workspace

if TYPE_CHECKING:
    from cascade.training.gates import Verdict

VERDICT, LINEAGE, MODEL = "verdict.json", "lineage.json", "model"
BASE_OF = {"fine_tuned_two_tower": "two_tower", "fine_tuned_dlrm": "dlrm"}
BUNDLE_OF = {
    "fine_tuned_two_tower": ("daily_retrieval_bundle", "retrieval_bundle"),
    "fine_tuned_dlrm": ("daily_ranker_bundle", "ranker_bundle"),
}
_NEEDED = (
    "user_transform",
    "item_transform",
    "context_transform",
    "item_table",
    "training_set",
    "evaluation_set",
    "two_tower",
    "dlrm",
    "item_vectors",
    "candidate_index",
)
ITEMS, INDEX = "items", "index"
NEW_ITEMS = "new_items"


@dataclass(frozen=True)
class Predecessor:
    """Where a day's model comes from. day: None for the full training; days: those fine-tuned on so far."""

    day: date | None
    model: Path
    digest: str
    days: tuple[date, ...]

    @property
    def name(self) -> str:
        """For people."""
        return "the full training" if self.day is None else f"fine-tuned on {self.day}"


def base_digest(workspace: Workspace, asset: str) -> str:
    """Names the full training that a fine-tuned asset belongs to."""
    return workspace.digest(BASE_OF[asset])


def require_base(workspace: Workspace, day: date) -> None:
    """Raises Failure where the full training is not whole, or knows the day itself."""
    split = workspace.split()
    if day <= split.evaluate[-1]:
        raise dg.Failure(
            f"{day} belongs to the full training, which knows the days to {split.evaluate[-1]}; fine-tune on later ones"
        )
    require_models(workspace)


def require_models(workspace: Workspace) -> None:
    """Raises Failure where the full training is not whole."""
    stale = [name for name in _NEEDED if not workspace.is_current(name)]
    if stale:
        raise dg.Failure(
            f"the full training is not whole: {', '.join(stale)} missing or out of date; "
            "run the job `build`, or `cascade up`, first"
        )


def predecessor(workspace: Workspace, asset: str, day: date) -> Predecessor:
    """The newest earlier day that passed its gates, else the full training."""
    for earlier in reversed(days_made(workspace, asset)):
        if earlier < day and read_verdict(workspace, asset, earlier).passed:
            folder = workspace.folder(asset, earlier.isoformat())
            digest = workspace.recorded(asset, earlier.isoformat())["digest"]
            return Predecessor(earlier, folder / MODEL, digest, learned_days(workspace, asset, earlier))
    base = BASE_OF[asset]
    return Predecessor(None, workspace.folder(base), workspace.digest(base), ())


def learned_days(workspace: Workspace, asset: str, day: date) -> tuple[date, ...]:
    """The days that a day's model was fine-tuned on, its own the last."""
    content = json.loads((workspace.folder(asset, day.isoformat()) / LINEAGE).read_text())
    return tuple(date.fromisoformat(one) for one in content["days"])


def days_made(workspace: Workspace, asset: str) -> list[date]:
    """Days of which there is a fine-tuned model that came from this full training, in order."""
    folder = workspace.folder(asset)
    if not folder.is_dir():
        return []
    wanted = base_digest(workspace, asset)
    days = []
    for entry in sorted(folder.iterdir()):
        made_of = workspace.recorded(asset, entry.name).get("made_of", {})
        if not entry.name.startswith(".") and made_of.get("base") == wanted:
            days.append(date.fromisoformat(entry.name))
    return days


def read_verdict(workspace: Workspace, asset: str, day: date) -> Verdict:
    """What the gates said of a day's model."""
    from cascade.training.gates import Verdict

    path = workspace.folder(asset, day.isoformat()) / VERDICT
    return Verdict.from_dict(json.loads(path.read_text()))


def version_of(workspace: Workspace, asset: str, day: date | None) -> str:
    """The bundle version of a day's model (None: of the full training). Raises Failure where there is none."""
    daily, base = BUNDLE_OF[asset]
    folder = workspace.folder(base) if day is None else workspace.folder(daily, day.isoformat())
    version = noted_version(folder)
    if version is None:
        raise dg.Failure(f"{folder.parent.name if day else base} has no version yet; materialize the bundle first")
    return version


def serving_version(workspace: Workspace, service: str, day: date) -> str | None:
    """The stable version that a day's model has to stand up to.

    None where nothing serves, or a version that knows this day: then it stands up to its own predecessor, so that a
    day which is made again is judged as it was the first time.
    """
    stable = workspace.store.alias(service, STABLE)
    return None if stable is None or last_day(workspace, service, stable) >= day else stable


def last_day(workspace: Workspace, service: str, version: str) -> date:
    """The newest day that a version learned from."""
    return max(workspace.store.manifest(service, version).training_days, default=date.min)


def current_catalog(workspace: Workspace) -> Catalog:
    """The newest item table and its index."""
    from cascade.index.interface import CandidateIndex

    folder = workspace.folder(NEW_ITEMS)
    if is_of_this_base(workspace):
        return Catalog(ItemTable.load(folder / ITEMS), CandidateIndex.load(folder / INDEX), folder)
    return full_catalog(workspace)


def is_of_this_base(workspace: Workspace) -> bool:
    """Whether new items were taken in since this full training."""
    made_of = workspace.recorded(NEW_ITEMS).get("made_of", {})
    return bool(made_of) and made_of.get("base") == workspace.digest("candidate_index")


def write_lineage(folder: Path, days: Sequence[date], verdict: Verdict) -> None:
    """Beside a fine-tuned model: which days it has learned from, and what the gates say."""
    (folder / LINEAGE).write_text(json.dumps({"days": [day.isoformat() for day in days]}))
    (folder / VERDICT).write_text(json.dumps(verdict.to_dict(), indent=2))
