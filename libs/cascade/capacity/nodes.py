"""The table of machines and their prices: a small file to edit (`data/nodes.toml`)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cascade.capacity.errors import CapacityFileError

_PACKAGED = "data/nodes.toml"


class NodeType(BaseModel):
    """A machine that can be had. Prices in US dollars an hour."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    cpu: float = Field(gt=0)
    memory_gib: float = Field(gt=0)
    on_demand: float = Field(gt=0)
    spot: float = Field(gt=0)
    gpu_memory_gib: float = Field(0.0, ge=0)

    def price(self, spot: bool) -> float:
        """Dollars an hour."""
        return self.spot if spot else self.on_demand


class CacheType(BaseModel):
    """A managed Redis or Valkey; what of its memory holds data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    memory_gib: float = Field(gt=0)
    on_demand: float = Field(gt=0)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    as_of: str
    note: str
    reserved_cpu: float = Field(ge=0)
    reserved_memory_gib: float = Field(ge=0)
    node: list[NodeType] = Field(min_length=1)
    cache: list[CacheType] = Field(min_length=1)


@dataclass(frozen=True)
class NodeTable:
    """as_of: of the prices; reserved: cores and bytes of each node that kubelet, system and daemons take"""

    source: str
    as_of: str
    note: str
    reserved_cpu: float
    reserved_memory_gib: float
    nodes: tuple[NodeType, ...]
    caches: tuple[CacheType, ...]

    @classmethod
    def load(cls, path: Path | None = None) -> NodeTable:
        """Of a TOML file, or of the packaged one. Raises CapacityFileError with every fault."""
        source = "the examples packaged with this release" if path is None else str(path)
        try:
            if path is None:
                text = resources.files("cascade.capacity").joinpath(_PACKAGED).read_text()
            else:
                text = path.read_text()
            content: dict[str, Any] = tomllib.loads(text)
            file = _File.model_validate(content)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc']))} is {fault['input']!r}: {fault['msg']}" for fault in error.errors()
            )
            raise CapacityFileError(f"{source}: {faults}") from error
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise CapacityFileError(f"no nodes can be read from {source}: {error}") from error
        return cls(
            source, file.as_of, file.note, file.reserved_cpu, file.reserved_memory_gib, tuple(file.node),
            tuple(sorted(file.cache, key=lambda one: one.on_demand)),
        )  # fmt: skip

    def of(self, *, gpu: bool) -> tuple[NodeType, ...]:
        """Those with a GPU, or those without."""
        return tuple(node for node in self.nodes if (node.gpu_memory_gib > 0) == gpu)

    def room(self, node: NodeType) -> tuple[float, float]:
        """Cores and GiB of a node that pods may have."""
        return node.cpu - self.reserved_cpu, node.memory_gib - self.reserved_memory_gib
