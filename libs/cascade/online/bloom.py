"""A Bloom filter as a plain bitmap (Bloom 1970): its shape, the bits of an item, and a table of the bits of many.

A bitmap needs no module in the server. Bit i of the bitmap is bit i of Redis: the most significant bit of a byte comes
first. What is kept of a user's seen items, several such filters in one string, is in generations.py.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.int32]
"""Bit numbers, int32 [k, N]: one row a hash, so that what is gathered by them is reduced along whole rows."""

HASH_SHARE = 0.65
"""Hashes, of those that make a filter smallest: a third fewer to set, keep and test for a tenth more memory."""


@dataclass(frozen=True)
class BloomShape:
    """How large a filter is: `capacity` items give a false positive with at most the probability `error_rate`.

    k = −HASH_SHARE log₂ p hashes, rounded; m = −k n / ln(1 − p^(1/k)) bits: what keeps p with k hashes, rounded up to
    whole bytes. A filter of very few items is larger: bits come from two numbers below m, so that any two items share
    all of theirs with probability 1/m², and n of them must stay well below p.
    """

    capacity: int = 1000
    error_rate: float = 0.01

    def __post_init__(self) -> None:
        if self.capacity < 1 or not 0 < self.error_rate < 1:
            raise ValueError(
                f"capacity {self.capacity} and error rate {self.error_rate}: give at least 1, and between 0 and 1"
            )

    @cached_property
    def bits(self) -> int:
        """m."""
        exact = -self.hashes * self.capacity / math.log1p(-(self.error_rate ** (1 / self.hashes)))
        return 8 * math.ceil(max(exact, math.sqrt(8 * self.capacity / self.error_rate)) / 8)

    @cached_property
    def hashes(self) -> int:
        """k."""
        return max(1, round(-HASH_SHARE * math.log2(self.error_rate)))

    def positions(self, item_id: str) -> list[int]:
        """The k bits of an item: the same in every process and release, because they are stored.

        Enhanced double hashing (Dillinger and Manolios 2004) over the two halves of a 128-bit hash; the cubic term
        keeps the bits apart where the second half is a divisor of m.
        """
        digest = hashlib.blake2b(item_id.encode(), digest_size=16).digest()
        first, second = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
        return [(first + i * second + (i**3 - i) // 6) % self.bits for i in range(self.hashes)]


class PositionTable:
    """The bits of the items met lately, so that a request hashes none of its 300.

    Bounded: where it is full, about an eighth goes, what was asked for longest ago first. For one thread.
    """

    def __init__(self, shape: BloomShape, capacity: int = 200_000) -> None:
        if capacity < 1:
            raise ValueError(f"capacity {capacity}: give at least 1")
        self.shape = shape
        self._capacity = capacity
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._bits: NDArray[np.int32] = np.empty((0, shape.hashes), np.int32)  # a row an item: one stretch of memory
        self._used = np.empty(0, np.int64)
        self._clock = 0

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._rows

    def lookup(self, item_ids: Sequence[str]) -> Bits:
        """The bits of each item, int32 [k, N]; those not met before are hashed and kept."""
        rows = self._find(item_ids)
        if rows is None:
            if len(set(item_ids)) > self._capacity:
                return self._hash(item_ids).T
            known = [row for row in map(self._rows.get, item_ids) if row is not None]
            self._touch(np.array(known, np.int64))
            self._add([item_id for item_id in dict.fromkeys(item_ids) if item_id not in self._rows])
            rows = np.fromiter(map(self._rows.__getitem__, item_ids), np.int64, count=len(item_ids))
        self._touch(rows)
        return self._bits.take(rows, axis=0).T

    def _find(self, item_ids: Sequence[str]) -> NDArray[np.int64] | None:
        """The rows of the items; None if one is missing."""
        if len(item_ids) < 2:  # an itemgetter of one key gives no tuple
            rows = [self._rows.get(item_id) for item_id in item_ids]
            return None if None in rows else np.array(rows, np.int64)
        try:
            # a third faster than asking for one after another
            return np.fromiter(itemgetter(*item_ids)(self._rows), np.int64, count=len(item_ids))
        except KeyError:
            return None

    def _touch(self, rows: NDArray[np.int64]) -> None:
        self._clock += 1
        self._used[rows] = self._clock

    def _hash(self, item_ids: Sequence[str]) -> NDArray[np.int32]:
        """int32 [N, k]"""
        flat = [bit for item_id in item_ids for bit in self.shape.positions(item_id)]
        return np.array(flat, np.int32).reshape(len(item_ids), self.shape.hashes)

    def _add(self, new: list[str]) -> None:
        if len(self) + len(new) > self._capacity:
            self._evict(len(new))
        start, end = len(self), len(self) + len(new)
        if end > len(self._bits):
            room = min(self._capacity, max(2 * len(self._bits), end, 1024))
            self._bits = np.resize(self._bits, (room, self.shape.hashes))
            self._used = np.resize(self._used, room)
        self._bits[start:end] = self._hash(new)
        self._used[start:end] = self._clock
        self._rows.update(zip(new, range(start, end), strict=True))
        self._ids += new

    def _evict(self, room: int) -> None:
        """Make room for that many, never at the cost of items touched by the request at hand."""
        used = self._used[: len(self)]
        needed = int(np.count_nonzero(used == self._clock))
        keep = max(needed, self._capacity - max(room, self._capacity // 8))
        kept = np.argsort(used, kind="stable")[len(self) - keep :]
        self._bits[:keep] = self._bits[kept]
        self._used[:keep] = used[kept]
        self._ids = [self._ids[row] for row in kept.tolist()]
        self._rows = {item_id: row for row, item_id in enumerate(self._ids)}
