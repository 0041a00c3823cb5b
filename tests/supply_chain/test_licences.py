"""Everything that an install brings may be used in, and shipped with, a product: its licence is one of those listed.

Looked at are the distributions that the extra `local` needs, and what those need, as they are installed here.
"""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
OURS = "cascade-recommender"
PERMISSIVE = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|CNRI-Python|Zlib|CC0|Unlicense|BSL-1\.0|HPND", re.IGNORECASE
)
WEAK_COPYLEFT = re.compile(r"MPL|Mozilla", re.IGNORECASE)
"""Of the files alone, which are not changed here: may be shipped beside other code."""
REFUSED = re.compile(r"(?<![A-Za-z])A?GPL|Affero|SSPL|Commons Clause|Business Source|BUSL|proprietary", re.IGNORECASE)
FAULT = "{name} {version} is under {licence!r}: leave it out, or look at the licence and list it here"


def licence_of(found: metadata.PackageMetadata) -> str:
    """The expression, else the classifiers, else the first line of the old field."""
    fields = {name: found.get_all(name) or [] for name in ("License-Expression", "Classifier", "License")}
    classified = [one.split(" :: ")[-1] for one in fields["Classifier"] if one.startswith("License :: ")]
    for told in (fields["License-Expression"], classified, [one.splitlines()[0] for one in fields["License"] if one]):
        if told:
            return "; ".join(told)
    return ""


def needed() -> dict[str, metadata.Distribution]:
    """Installed distributions by name, the project itself left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [Requirement(f"{OURS}[local]")]
    met: set[tuple[str, str]] = set()
    distributions: dict[str, metadata.Distribution] = {}
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for extra in ("", *wanted.extras):
            if (name, extra) in met:
                continue
            met.add((name, extra))
            if name == OURS:
                waiting += map(Requirement, project["optional-dependencies"].get(extra, ()))
                continue
            try:
                distributions[name] = metadata.distribution(name)
            except metadata.PackageNotFoundError:  # of another system, or left out here
                continue
            for one in map(Requirement, distributions[name].requires or ()):
                if one.marker is None or one.marker.evaluate({"extra": extra}):
                    waiting.append(one)
    return distributions


def test_every_licence_is_one_of_those_listed() -> None:
    found = needed()
    assert len(found) > 50
    faults = []
    for name, distribution in sorted(found.items()):
        licence = licence_of(distribution.metadata)
        # one that may be chosen among several counts as the permissive one
        allowed = PERMISSIVE.search(licence) or WEAK_COPYLEFT.search(licence)
        if not allowed or (REFUSED.search(licence) and " OR " not in licence):
            faults.append(FAULT.format(name=name, version=distribution.version, licence=licence))
    assert faults == []


def test_licences_that_are_refused() -> None:
    for told in ("GNU Affero General Public License v3", "GPL-3.0-only", "AGPL-3.0", "SSPL-1.0", "BUSL-1.1"):
        assert REFUSED.search(told)
    for told in ("MIT", "BSD-3-Clause", "Apache-2.0 WITH LLVM-exception", "PSF-2.0"):
        assert PERMISSIVE.search(told)
        assert not REFUSED.search(told)
