"""The drift of a window of time: every model's features, and what could not be looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cascade.drift.psi import DRIFTED, WATCH

State = Literal["stable", "watch", "drifted", "too few"]


@dataclass(frozen=True)
class Drift:
    """One feature of one model.

    psi, chance: the index, and what chance alone would stay below in 99 of 100 hours; None without a visitor
    visitors: who were served; reference: the size of what it is held against (effective, over the hours of the day)
    same_hours: whether that is of the same hours of the day
    bins, expected, actual: names and shares
    """

    model: str
    feature: str
    state: State
    psi: float | None
    chance: float | None
    visitors: int
    reference: float
    same_hours: bool
    bins: tuple[str, ...]
    expected: tuple[float, ...]
    actual: tuple[float, ...]

    @property
    def judged(self) -> bool:
        """Whether there was enough to tell."""
        return self.state != "too few"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Drift:
        """From JSON."""
        lists = {name: tuple(content[name]) for name in ("bins", "expected", "actual")}
        return cls(**{**content, **lists})


@dataclass(frozen=True)
class DriftReport:
    """start, end: of the window, UTC seconds, the end not in it. min_visitors: below which nothing is judged.

    versions: model → the bundle whose lists were looked at
    visitors: model → whom it made lists for in the window
    notes: of models that could not be looked at, and why
    """

    start: int
    end: int
    min_visitors: int
    drifts: tuple[Drift, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    visitors: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of(self, state: State) -> list[Drift]:
        """The features in a state, the largest index first."""
        return sorted((one for one in self.drifts if one.state == state), key=lambda one: -(one.psi or 0.0))

    @property
    def passed(self) -> bool:
        """Whether everything was judged and nothing drifted."""
        return bool(self.drifts) and not self.notes and not self.of("drifted") and not self.of("too few")

    @property
    def summary(self) -> str:
        """What is to be said of it, the worst first; never silent about what was not judged."""
        said = [f"drifted (PSI above {DRIFTED:g}): {_listed(self.of('drifted'))}"] if self.of("drifted") else []
        if few := self.of("too few"):
            said.append(
                f"too few visitors to judge {len(few)} of {len(self.drifts)} features ({self.min_visitors} needed): "
                + ", ".join(f"{one.model} {one.feature} ({one.visitors})" for one in few)
            )
        said += self.notes
        if self.of("watch"):
            said.append(f"to watch (PSI above {WATCH:g}): {_listed(self.of('watch'))}")
        if not self.drifts and not self.notes:
            said.append("nothing was judged")
        return "; ".join(said) or f"all {len(self.drifts)} features are stable"

    def to_json(self) -> str:
        """For a file, or Redis."""
        content = {**self.__dict__, "drifts": [one.to_dict() for one in self.drifts]}
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> DriftReport:
        """What `to_json` wrote. Raises ValueError, KeyError or TypeError on anything else."""
        content: dict[str, Any] = json.loads(text)
        drifts = tuple(Drift.from_dict(one) for one in content["drifts"])
        return cls(**{**content, "drifts": drifts, "notes": tuple(content["notes"])})


def _listed(drifts: Sequence[Drift]) -> str:
    return ", ".join(f"{one.model} {one.feature} ({one.psi or 0.0:.2f})" for one in drifts)
