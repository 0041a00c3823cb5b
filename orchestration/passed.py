"""Which blocking checks an artifact has passed: a note of each beside the artifact, of that very artifact.

Within a run Dagster holds back what is built on an asset until its blocking checks have passed. A later run knows
nothing of that: it finds an artifact that is whole, be it that the check failed or that the run was killed before it.
So a check that passes leaves a note, and whoever reads the artifact asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cascade.files import replacing, sha256_of_file
from orchestration.provenance import PROVENANCE_FILE

FOLDER = ".passed"


def seal(artifact: Path) -> str | None:
    """Names this making of the artifact, by its provenance; None where there is none."""
    try:
        return sha256_of_file(artifact / PROVENANCE_FILE)
    except FileNotFoundError:
        return None


def note(artifact: Path, check: str, judged: str | None) -> None:
    """The check passed for the making that `judged` names; None: it did not pass, and a former note goes.

    A making that has been replaced meanwhile has another seal, so that the note says nothing of its successor.
    """
    path = artifact / FOLDER / check
    if judged is None:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as beside:
        beside.write_text(judged)


def missing(artifact: Path, checks: Iterable[str]) -> list[str]:
    """Those of the checks that this making of the artifact is not known to have passed."""
    now = seal(artifact)
    return [check for check in checks if now is None or _noted(artifact / FOLDER / check) != now]


def _noted(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
