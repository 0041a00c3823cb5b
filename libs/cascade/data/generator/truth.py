"""truth/: what a generated dataset folder keeps beside the contract, so that its oracle can be restored.

shop.json holds the configuration and the names; every array is a .npy of its own. Nothing but the oracle and the
generator reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.data.errors import TruthUnavailable
from cascade.data.files import write_text
from cascade.files import replacing

FOLDER = "truth"
_FORMAT = 1

Arrays = Mapping[str, NDArray[np.generic]]


def is_there(root: Path) -> bool:
    return (root / FOLDER / "shop.json").is_file()


def save(root: Path, description: Mapping[str, Any], groups: Mapping[str, Arrays]) -> None:
    folder = root / FOLDER
    for group, arrays in groups.items():
        for name, array in arrays.items():
            with replacing(folder / group / f"{name}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, array, allow_pickle=False)
    # Last, as it is the mark of a whole truth/.
    write_text(json.dumps({"format": _FORMAT, **description}, indent=2) + "\n", folder / "shop.json")


def load_description(root: Path) -> dict[str, Any]:
    path = root / FOLDER / "shop.json"
    if not path.is_file():
        raise TruthUnavailable(
            f"{root} has no {FOLDER}/shop.json: it was not generated, so the true click probabilities are not known"
        )
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TruthUnavailable(f"{path} is not JSON ({error}); generate the shop again") from error
    if description.get("format") != _FORMAT:
        raise TruthUnavailable(
            f"{path} has format {description.get('format')!r}, this version reads {_FORMAT}; generate the shop again"
        )
    return description


def load_group(root: Path, group: str, names: list[str]) -> dict[str, Any]:
    arrays = {}
    for name in names:
        path = root / FOLDER / group / f"{name}.npy"
        try:
            arrays[name] = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise TruthUnavailable(f"{path} cannot be read ({error}); generate the shop again") from error
    return arrays
