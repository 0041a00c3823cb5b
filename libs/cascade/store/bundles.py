"""A bundle: a folder with all a service needs, and the manifest that vouches for it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cascade.files import sha256_of_file
from cascade.store.errors import BundleCorrupt, BundleTooNew

MANIFEST = "manifest.json"
FORMAT = 1


class Manifest(BaseModel):
    """What a bundle is, where it comes from, and the sha256 of each of its files."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: int = FORMAT
    service: str
    version: str
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    parent: str | None = None
    training_days: list[date] = []
    evaluation_days: list[date] = []
    lineage: dict[str, str] = {}
    metrics: dict[str, float] = {}
    gates: dict[str, Any] | None = None
    """what the gates said (training.gates.Verdict.to_dict), where they were asked"""
    files: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on local disk."""

    path: Path
    manifest: Manifest

    @property
    def version(self) -> str:
        return self.manifest.version


def file_hashes(folder: Path) -> dict[str, str]:
    """POSIX path below `folder` → sha256, for every file but the manifest."""
    return {
        path.relative_to(folder).as_posix(): sha256_of_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }


def content_version(hashes: dict[str, str], lineage: dict[str, str], days: list[date], parent: str | None) -> str:
    """`<last training day>-<digest>`: the same content has the same version, and versions sort by day."""
    digest = hashlib.sha256()
    for part in (sorted(hashes.items()), sorted(lineage.items()), [str(day) for day in sorted(days)], parent):
        digest.update(repr(part).encode())
    day = max(days).strftime("%Y%m%d") if days else "00000000"
    return f"{day}-{digest.hexdigest()[:12]}"


def read_manifest(text: str, where: str) -> Manifest:
    """Parse a manifest.

    Raises:
        BundleTooNew: its format is newer than this code's
        BundleCorrupt: it is no manifest
    """
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BundleCorrupt(
            f"{where}/{MANIFEST} is not a manifest ({error.error_count()} faults); build the bundle again"
        ) from error
    if manifest.format > FORMAT:
        raise BundleTooNew(
            f"{where} has bundle format {manifest.format}, this release reads up to {FORMAT}; upgrade the service first"
        )
    return manifest


def verify(folder: Path, manifest: Manifest) -> None:
    """Hold every file against the manifest.

    Raises:
        BundleCorrupt: names the files that are missing, unexpected or altered
    """
    found = file_hashes(folder)
    faults = [f"missing {name}" for name in manifest.files if name not in found]
    faults += [f"unexpected {name}" for name in found if name not in manifest.files]
    faults += [f"altered {name}" for name, digest in found.items() if manifest.files.get(name, digest) != digest]
    if faults:
        raise BundleCorrupt(
            f"bundle {manifest.service}/{manifest.version} fails its checksums: {'; '.join(sorted(faults)[:5])}; "
            "restore it or build it again"
        )
