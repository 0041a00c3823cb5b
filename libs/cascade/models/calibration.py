"""From a network's logits to logits whose probabilities hold: a rising, piecewise linear function.

Fitted by `cascade.training.calibration` on rows that training did not learn from, stored in the model's configuration
as plain numbers, applied by everything that gives a probability. It never turns an order round: what scored higher
does not score lower afterwards, down to the last bit of float32.

Two kinds: a temperature is one line (Platt 1999: a slope and a shift); isotonic has a knot for each level that was
observed (centred isotonic regression, Oron and Flournoy 2017), so that different scores stay different between knots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from cascade.models.arrays import Floats
from cascade.models.errors import ModelConfigError

Kind = Literal["none", "temperature", "isotonic"]


@dataclass(frozen=True)
class Calibration:
    """Lines between knots, and one before the first and after the last.

    logits, calibrated: the knots' places and values, at least one, places rising, values not falling
    before, after: slopes outside the knots, above 0
    Raises ModelConfigError on anything else.
    """

    kind: Kind = "none"
    logits: tuple[float, ...] = (0.0,)
    calibrated: tuple[float, ...] = (0.0,)
    before: float = 1.0
    after: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ModelConfigError(f"calibration {self.kind!r} is none of {', '.join(get_args(Kind))}")
        numbers = (*self.logits, *self.calibrated, self.before, self.after)
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise ModelConfigError(f"a calibration of {numbers} holds what is no finite number; calibrate again")
        if not self.logits or len(self.logits) != len(self.calibrated):
            raise ModelConfigError(
                f"a calibration has {len(self.logits)} places and {len(self.calibrated)} values; give one of each knot"
            )
        rising = all(a < b for a, b in pairwise(self.logits)) and all(a <= b for a, b in pairwise(self.calibrated))
        if not rising or self.before <= 0 or self.after <= 0:
            raise ModelConfigError("a calibration falls somewhere, which would turn the order round; calibrate again")

    @classmethod
    def temperature(cls, scale: float, shift: float = 0.0) -> Self:
        """One line: logit × scale + shift."""
        return cls("temperature", (0.0,), (shift,), scale, scale)

    @property
    def line(self) -> tuple[float, float] | None:
        """Scale and shift where it is one line, which a linear last layer can take up; else None."""
        if len(self.logits) == 1 and self.before == self.after:
            return self.before, self.calibrated[0] - self.before * self.logits[0]
        return None

    @cached_property
    def _pieces(self) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Knots [K]; of each of the K + 1 pieces where it starts, its value there, its slope, its largest value."""
        knots, values = np.array(self.logits), np.array(self.calibrated)
        slopes = np.concatenate([[self.before], np.diff(values) / np.diff(knots), [self.after]])
        start, value = np.concatenate([knots[:1], knots]), np.concatenate([values[:1], values])
        parts = (knots, start, value, slopes, np.append(values, np.inf))
        first, *rest = (part.astype(np.float32) for part in parts)
        return first, *rest  # type: ignore[return-value]

    def of(self, logits: Floats) -> Floats:
        """float32 [N] → float32 [N]."""
        if self.kind == "none":
            return logits
        knots, start, value, slope, largest = self._pieces
        piece = np.searchsorted(knots, logits, side="right")
        # Rounding may end a piece a bit above the next one's start: capped, so that no order is turned round.
        raised: Floats = np.minimum(value[piece] + slope[piece] * (logits - start[piece]), largest[piece])
        return raised

    def of_tensor(self, logits: Tensor) -> Tensor:
        """The same on a tensor of any shape, where it lies; constants go there once."""
        if self.kind == "none":
            return logits
        knots, start, value, slope, largest = self._on(logits.device)
        piece = torch.bucketize(logits, knots, right=True)
        return torch.minimum(value[piece] + slope[piece] * (logits - start[piece]), largest[piece])

    def _on(self, device: torch.device) -> tuple[Tensor, ...]:
        kept: dict[torch.device, tuple[Tensor, ...]] = self.__dict__.setdefault("_tensors", {})
        if device not in kept:
            kept[device] = tuple(torch.from_numpy(part).to(device) for part in self._pieces)
        return kept[device]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; floats survive exactly."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """From JSON. None: a model saved before there were calibrations. Raises ModelConfigError."""
        if values is None:
            return cls()
        if not isinstance(values, dict):
            raise ModelConfigError(f"a calibration is {type(values).__name__}, not an object; save the model again")
        stored: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            return cls(**stored)
        except TypeError as error:
            raise ModelConfigError(f"not a calibration: {error}") from error


NONE = Calibration()
"""Logits as they are."""
