"""Which lock files there are, and what they hold.

A lock is a requirements file for `pip install --require-hashes`: every distribution of an environment with its version,
the systems it is for, and the SHA-256 of each file that may be installed for it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "requirements"
OURS = "cascade-recommender"

SERVICES = ("gateway", "retrieval", "filter", "ranker", "features", "orchestration")
"""Deployables, each with an image and an extra of its name."""

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "development": ("dev",),
    **{service: (service, "s3", "tracing") for service in SERVICES},
    "faiss-gpu": ("gpu",),
}
"""Lock → the extras it locks. Services as their images hold them."""

TORCH_CPU, TORCH_CUDA = "torch-cpu", "torch-cuda"
"""On Linux one of the two goes with each lock that holds torch: `-c` the first, which admits PyTorch's CPU build alone,
or `-r` the second, what the ordinary registry's build, which is for CUDA, needs beside itself."""

BUILD = "build"
"""What builds the project's own wheel."""

LOCKS = (*EXTRAS, TORCH_CPU, TORCH_CUDA, BUILD)


@dataclass(frozen=True)
class Pin:
    """One distribution of a lock; the same one may stand there twice, for different systems."""

    name: str
    extras: frozenset[str]
    version: str
    marker: Marker | None
    hashes: frozenset[str]
    """SHA-256 in hexadecimal digits: of each file of the version, for whatever system."""

    def applies(self, system: dict[str, str]) -> bool:
        """Whether it is installed where markers have these values."""
        return self.marker is None or self.marker.evaluate({"extra": "", **system})


class LockUnreadable(ValueError):
    """A line of a lock that is no exact version with hashes."""


def path_of(lock: str) -> Path:
    """Where a lock lies."""
    return FOLDER / f"{lock}.lock"


def read(path: Path) -> list[Pin]:
    """The pins of a lock.

    Raises:
        LockUnreadable: a line names no exact version.
    """
    without_comments = re.sub(r"^\s*#.*$", "", path.read_text(), flags=re.MULTILINE)
    lines = filter(None, (line.strip() for line in without_comments.replace("\\\n", " ").splitlines()))
    return [_pin(line, path.name) for line in lines]


def project() -> dict[str, Any]:
    """What pyproject.toml says of the project and its build system."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def direct(extras: tuple[str, ...]) -> list[Requirement]:
    """What extras name, those that they consist of included, the project itself left out."""
    declared = project()["project"]["optional-dependencies"]
    waiting, met, found = list(extras), set[str](), list[Requirement]()
    while waiting:
        extra = waiting.pop()
        if extra in met:
            continue
        met.add(extra)
        for requirement in map(Requirement, declared[extra]):
            if canonicalize_name(requirement.name) == OURS:
                waiting += requirement.extras
            else:
                found.append(requirement)
    return found


def _pin(line: str, where: str) -> Pin:
    told, *hashes = re.split(r"\s+--hash=sha256:", line)
    requirement = Requirement(told)
    version = re.fullmatch(r"==([^*,]+)", str(requirement.specifier))
    if version is None:
        raise LockUnreadable(f"{where}: {told!r} is no exact version; run `make lock`")
    name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
    return Pin(name, extras, version[1], requirement.marker, frozenset(hashes))
