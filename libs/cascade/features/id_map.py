"""From ids to positions, hundreds at a time.

A dict answers one id after the other, and in a large catalog each answer waits for three places of memory in a row:
the dict's index, its entry, the text to compare. The map here hashes the ids first and then looks all of them up at
once, so that these waits overlap, and compares hashes instead of texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from cascade.features.spec import Rows

UNKNOWN = -1

WORTH_HASHING = 20_000
"""ids from which on the vectorised look-up is the faster one: below, a dict lies in the caches"""

_BITS = 64


class IdMap:
    """Positions of distinct ids.

    From `worth_hashing` ids on, an id is known by its 64-bit hash (Python's, keyed anew in each process) alone: the
    chance that an unknown id is taken for one of a million known ones is 5 in 10^14. Should two known ids ever share
    a hash, the dict serves.
    """

    def __init__(self, ids: Sequence[str], worth_hashing: int = WORTH_HASHING) -> None:
        self._ids = ids
        self._buckets = _Buckets.of(_hashes(ids)) if len(ids) >= worth_hashing else None

    @cached_property
    def _dict(self) -> dict[str, int]:
        return {item: position for position, item in enumerate(self._ids)}

    def positions(self, ids: Sequence[str]) -> Rows:
        """Where the ids stand, int32 [K]; -1 for an unknown one."""
        if self._buckets is not None:
            return self._buckets.find(_hashes(ids))
        return np.fromiter(map(self._dict.get, ids, repeat(UNKNOWN)), np.int32, count=len(ids))


class _Buckets:
    """Sorted hashes, found by their leading bits: about one a bucket, and a few more in the fullest.

    hashes: uint64 [n + window], sorted; positions: int32 likewise; both padded at the end
    starts: int32 [buckets], where each bucket begins
    """

    def __init__(
        self, hashes: NDArray[np.uint64], positions: Rows, starts: Rows, shift: np.uint64, window: int
    ) -> None:
        self._hashes = hashes
        self._positions = positions
        self._starts = starts
        self._shift = shift
        self._window = np.arange(window)

    @classmethod
    def of(cls, hashes: NDArray[np.uint64]) -> _Buckets | None:
        """None where there is nothing to hold, or two hashes are equal."""
        if not len(hashes):
            return None
        order = np.argsort(hashes)
        ordered = hashes[order]
        if (ordered[1:] == ordered[:-1]).any():
            return None
        shift = np.uint64(_BITS - max(len(hashes).bit_length() - 1, 1))
        buckets = 1 << (_BITS - int(shift))
        starts = np.searchsorted(ordered >> shift, np.arange(buckets + 1, dtype=np.uint64)).astype(np.int32)
        window = int(np.diff(starts).max())
        # Padding repeats the last: a hash found there has its own position all the same.
        padded = np.append(ordered, np.full(window, ordered[-1]))
        positions = np.append(order, np.full(window, order[-1])).astype(np.int32)
        return cls(padded, positions, starts[:-1], shift, window)

    def find(self, hashes: NDArray[np.uint64]) -> Rows:
        """Positions int32 [K]; -1 for a hash that is not held."""
        first = self._starts[hashes >> self._shift]
        hits = self._hashes[first[:, None] + self._window] == hashes[:, None]  # [K, window]
        at = first + hits.argmax(axis=1)
        return np.where(self._hashes[at] == hashes, self._positions[at], np.int32(UNKNOWN))


def _hashes(ids: Sequence[str]) -> NDArray[np.uint64]:
    return np.fromiter(map(hash, ids), np.int64, count=len(ids)).view(np.uint64)
