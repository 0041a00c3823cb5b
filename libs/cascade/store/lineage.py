"""Which parts belong together: a query tower is of use with an index of its own candidate tower alone.

Apart from `artifacts`, because a release checks it without loading what a bundle holds.
"""

from __future__ import annotations

import json
from pathlib import Path

from cascade.store.errors import LineageMismatch

QUERY_TOWER, INDEX = "query_tower", "index"
"""Folders of a retrieval bundle."""


def require_one_lineage(service: str, folder: Path) -> None:
    """What a bundle requires of its parts, read from their headers: no network is loaded.

    Raises LineageMismatch. A folder without the headers is for loading to refuse.
    """
    if service != "retrieval":
        return
    try:
        tower = json.loads((folder / QUERY_TOWER / "config.json").read_text(encoding="utf-8"))
        index = json.loads((folder / INDEX / "index.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    require_same_tower(tower.get("config", {}).get("candidate_fingerprint"), index.get("source"))


def require_same_tower(trained_against: str | None, built_from: str | None) -> None:
    """Fingerprints of the candidate tower that a query tower was trained against, and that an index was built from.

    Raises LineageMismatch where they differ or the first is unknown.
    """
    if trained_against is None or trained_against != built_from:
        raise LineageMismatch(
            f"the query tower was trained against candidate tower {_short(trained_against)} and the index built "
            f"from {_short(built_from)}; bundle the two of one training"
        )


def _short(fingerprint: str | None) -> str:
    return "unknown" if fingerprint is None else fingerprint[:12]
