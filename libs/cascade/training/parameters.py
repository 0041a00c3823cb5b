"""Hyper-parameters from a file: the fields of the training classes and networks, by name.

    [two_tower]                [dlrm]                      fields of TwoTowerTraining and DlrmTraining
    [two_tower.loop]           [dlrm.loop]                 of LoopConfig
    [two_tower.network]        [dlrm.network]              of TwoTowerConfig and DlrmConfig that the data leaves open

TOML or JSON. What a file leaves out keeps its default; a name or a type that does not exist is refused.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from cascade.models.dlrm import DlrmConfig
from cascade.models.two_tower import TwoTowerConfig
from cascade.training.dlrm_training import DlrmTraining
from cascade.training.errors import TrainingInputError
from cascade.training.two_tower_training import TwoTowerTraining

_OF_DATA = ("cardinalities", "continuous")
"""Endings of the networks' fields that follow from the data."""

T = TypeVar("T")


@dataclass(frozen=True)
class Parameters:
    """How both models are built and trained.

    two_tower_epochs, dlrm_epochs: whether the file says how many; else the size of the data does
    """

    two_tower: TwoTowerTraining = field(default_factory=TwoTowerTraining)
    dlrm: DlrmTraining = field(default_factory=DlrmTraining)
    two_tower_network: Mapping[str, Any] = field(default_factory=dict)
    dlrm_network: Mapping[str, Any] = field(default_factory=dict)
    two_tower_epochs: bool = False
    dlrm_epochs: bool = False

    @classmethod
    def load(cls, path: Path) -> Parameters:
        """Read a .toml or .json file. Raises TrainingInputError with the name at fault."""
        try:
            text = path.read_text(encoding="utf-8")
            content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        except OSError as error:
            raise TrainingInputError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise TrainingInputError(f"{path} is neither TOML (.toml) nor JSON: {error}") from error
        return cls.from_dict(content, str(path))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], source: str = "parameters") -> Parameters:
        """From what `to_dict` gives, or a part of it."""
        _known(content, ("two_tower", "dlrm"), source)
        towers, ranker = content.get("two_tower", {}), content.get("dlrm", {})
        return cls(
            _changed(TwoTowerTraining(), towers, f"{source}: two_tower", aside=("network",)),
            _changed(DlrmTraining(), ranker, f"{source}: dlrm", aside=("network",)),
            _network(TwoTowerConfig, towers, f"{source}: two_tower.network"),
            _network(DlrmConfig, ranker, f"{source}: dlrm.network"),
            "epochs" in towers.get("loop", {}),
            "epochs" in ranker.get("loop", {}),
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON: every value in use."""
        return {
            "two_tower": {**asdict(self.two_tower), "network": dict(self.two_tower_network)},
            "dlrm": {**asdict(self.dlrm), "network": dict(self.dlrm_network)},
        }


def _changed(default: T, values: Mapping[str, Any], place: str, aside: tuple[str, ...] = ()) -> T:
    """A dataclass instance with some fields replaced, nested ones likewise."""
    names = [f.name for f in fields(default)]  # type: ignore[arg-type]
    _known(values, (*names, *aside), place)
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name in aside:
            continue
        before = getattr(default, name)
        if is_dataclass(before):
            changes[name] = _changed(before, value, f"{place}.{name}")
        else:
            changes[name] = _of_type(before, value, f"{place}.{name}")
    return replace(default, **changes)  # type: ignore[type-var]


def _network(kind: type, section: Mapping[str, Any], place: str) -> dict[str, Any]:
    values = section.get("network", {})
    open_fields = {
        f.name: f.default for f in fields(kind) if not f.name.endswith(_OF_DATA) and f.default is not MISSING
    }
    _known(values, tuple(open_fields), place)
    return {name: _of_type(open_fields[name], value, f"{place}.{name}") for name, value in values.items()}


def _of_type(before: Any, value: Any, place: str) -> Any:
    """The value in the default's type; where the default is None anything goes that a number or None is."""
    if isinstance(before, tuple) and isinstance(value, (list, tuple)):
        return tuple(value)
    if isinstance(before, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if before is None or value is None:
        fits = isinstance(value, (int, float, type(None)))
    else:
        fits = type(value) is type(before)
    if not fits:
        like = "a number, true or false" if before is None else f"a value like {before!r}"
        raise TrainingInputError(f"{place} is {value!r}; give {like}")
    return value


def _known(values: Any, names: tuple[str, ...], place: str) -> None:
    if not isinstance(values, Mapping):
        raise TrainingInputError(f"{place} is {values!r}; give a table of names and values")
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise TrainingInputError(f"{place} has no {unknown[0]!r}; it has {', '.join(names)}")
