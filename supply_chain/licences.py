"""Under which licence a distribution is, and whether that is one of those listed in licences.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

from license_expression import ExpressionError, LicenseExpression, get_spdx_licensing

RULES = Path(__file__).with_name("licences.toml")
_SPDX = get_spdx_licensing()


@dataclass(frozen=True)
class Named:
    """What is said of distributions by name."""

    names: Sequence[str]
    licence: str
    why: str


@dataclass(frozen=True)
class Rules:
    """The file of rules."""

    allowed: frozenset[str]
    spelled: dict[str, str]
    named: tuple[Named, ...]

    def naming(self, distribution: str) -> Named | None:
        """What the file says of this distribution."""
        return next((one for one in self.named if any(fnmatch(distribution, name) for name in one.names)), None)

    def allows(self, licence: str) -> bool:
        """Whether an SPDX expression leaves a choice that consists of listed licences alone."""
        try:
            parsed = _SPDX.parse(licence, simple=False)
        except ExpressionError:
            return False
        return parsed is not None and self._allows(parsed)

    def _allows(self, parsed: LicenseExpression) -> bool:
        if isinstance(parsed, _SPDX.OR):
            return any(map(self._allows, parsed.args))
        if isinstance(parsed, _SPDX.AND):
            return all(map(self._allows, parsed.args))
        return str(parsed) in self.allowed


def rules(path: Path = RULES) -> Rules:
    """The rules of a file."""
    read = tomllib.loads(path.read_text())
    return Rules(frozenset(read["allowed"]), read["spelled"], tuple(Named(**one) for one in read["named"]))


def told(found: metadata.PackageMetadata, spelled: dict[str, str]) -> str:
    """What a distribution says of itself as an SPDX expression: its expression, else classifiers, else the old field.

    Several classifiers count as all of them at once. Empty where it says nothing that `spelled` or SPDX knows.
    """
    fields = {name: found.get_all(name) or [] for name in ("License-Expression", "Classifier", "License")}
    if fields["License-Expression"]:
        return str(fields["License-Expression"][0])
    classified = [one.split(" :: ")[-1] for one in fields["Classifier"] if one.startswith("License :: ")]
    for words in (classified, [one.splitlines()[0] for one in fields["License"] if one]):
        known = [spelled.get(one, one) for one in words]
        if expression := " AND ".join(f"({one})" if " " in one else one for one in known if one):
            return expression
    return ""


def licence_of(distribution: str, by: Rules) -> str:
    """A distribution's licence: what the file says of its name, else what the installed one says; else empty."""
    if named := by.naming(distribution):
        return named.licence
    try:
        return told(metadata.metadata(distribution), by.spelled)
    except metadata.PackageNotFoundError:
        return ""
