"""How a fitted transform is versioned, stored and read back.

A folder with one Parquet a vocabulary and `transform.json`, whose version is a hash over all of them: a folder
left between two writes, or altered since, is refused instead of loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cascade.features.errors import FeatureFileCorruptedError
from cascade.features.files import FORMAT, hash_json, read_json, write_json
from cascade.features.standardiser import Standardiser
from cascade.features.vocabulary import Vocabulary

DESCRIPTION = "transform.json"


def version_of(kind: str, vocabularies: Mapping[str, Vocabulary], standardisers: Mapping[str, Standardiser]) -> str:
    """sha256 hex of everything that decides the transform's output."""
    return hash_json(
        {
            "kind": kind,
            "format": FORMAT,
            "vocabularies": {name: vocabulary.digest for name, vocabulary in vocabularies.items()},
            "standardisers": _described(standardisers),
        }
    )


def save_fitted(
    folder: Path, kind: str, vocabularies: Mapping[str, Vocabulary], standardisers: Mapping[str, Standardiser]
) -> None:
    """Write the parts of a transform; the description, which holds the version, last."""
    for name, vocabulary in vocabularies.items():
        vocabulary.save(folder / f"{name}.parquet")
    content: dict[str, Any] = {
        "kind": kind,
        "format": FORMAT,
        "version": version_of(kind, vocabularies, standardisers),
        "vocabularies": {name: vocabulary.cardinality for name, vocabulary in vocabularies.items()},
        "standardisers": _described(standardisers),
    }
    write_json(folder / DESCRIPTION, content)


def load_fitted(
    folder: Path, kind: str, vocabularies: tuple[str, ...], standardisers: tuple[str, ...]
) -> tuple[dict[str, Vocabulary], dict[str, Standardiser]]:
    """The named parts of a stored transform.

    Raises FeatureFileError's subclasses: a part is missing, altered, or of a newer format.
    """
    path = folder / DESCRIPTION
    content = read_json(path, kind)
    try:
        numbers = {
            name: Standardiser(
                float(content["standardisers"][name]["mean"]),
                float(content["standardisers"][name]["deviation"]),
            )
            for name in standardisers
        }
    except (KeyError, TypeError, ValueError) as error:
        raise FeatureFileCorruptedError(
            path, f"its standardisers are not readable ({error!r}); fit it again"
        ) from error
    words = {name: Vocabulary.load(folder / f"{name}.parquet") for name in vocabularies}
    if version_of(kind, words, numbers) != content.get("version"):
        raise FeatureFileCorruptedError(path, "its parts do not add up to its version; fit it again")
    return words, numbers


def _described(standardisers: Mapping[str, Standardiser]) -> dict[str, dict[str, float]]:
    return {name: {"mean": one.mean, "deviation": one.deviation} for name, one in standardisers.items()}
