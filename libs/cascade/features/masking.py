"""Cold-start masking: some training rows lose their identity, so that the OOV rows are learned.

A share of rows loses user_id, gender and top_category together (a visitor nobody knows), and a share of its
own loses the device. The same seed masks the same rows, whatever the batch they are read in; users and devices
draw from separate streams of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.features.errors import FeatureInputError
from cascade.features.spec import CONTEXT_CATEGORICAL, OOV, USER_CATEGORICAL, Encoded

DEFAULT_SHARE = 0.05

_USER_COLUMNS = [USER_CATEGORICAL.index(name) for name in ("user_id", "gender", "top_category")]
_DEVICE_COLUMNS = [CONTEXT_CATEGORICAL.index("device_type")]
_USER_STREAM, _DEVICE_STREAM = 0, 1

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Masking:
    """What a masked training set hides: the shares of rows, and the seed that picks them."""

    seed: int
    user_share: float = DEFAULT_SHARE
    device_share: float = DEFAULT_SHARE


def users_to_mask(count: int, share: float, seed: int) -> Mask:
    """bool [count]: the rows whose user is hidden."""
    return _draw(count, share, seed, _USER_STREAM)


def devices_to_mask(count: int, share: float, seed: int) -> Mask:
    """bool [count]: the rows whose device is hidden."""
    return _draw(count, share, seed, _DEVICE_STREAM)


def hide_users(user: Encoded, rows: Mask) -> Encoded:
    """A copy with user_id, gender and top_category out-of-vocabulary in the given rows."""
    return _hide(user, rows, _USER_COLUMNS)


def hide_devices(context: Encoded, rows: Mask) -> Encoded:
    """A copy with device_type out-of-vocabulary in the given rows."""
    return _hide(context, rows, _DEVICE_COLUMNS)


def mask_users(user: Encoded, share: float, seed: int) -> Encoded:
    """A copy in which about `share` of the rows lost user_id, gender and top_category together."""
    return hide_users(user, users_to_mask(len(user), share, seed))


def mask_devices(context: Encoded, share: float, seed: int) -> Encoded:
    """A copy in which about `share` of the rows lost their device_type."""
    return hide_devices(context, devices_to_mask(len(context), share, seed))


def _draw(count: int, share: float, seed: int, stream: int) -> Mask:
    if not 0 <= share <= 1:
        raise FeatureInputError(f"a share of rows lies between 0 and 1, not {share}")
    return np.random.default_rng([seed, stream]).random(count) < share


def _hide(encoded: Encoded, rows: Mask, columns: list[int]) -> Encoded:
    categorical = encoded.categorical.copy()
    for column in columns:
        categorical[rows, column] = OOV
    return Encoded(categorical, encoded.continuous)
