"""Randomness that depends on what it is for, never on what was drawn before."""

from __future__ import annotations

import uuid
import zlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def generator(seed: int, purpose: str, *keys: int) -> np.random.Generator:
    """A generator for one purpose (and day, ...): streams of different purposes are independent."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *keys])


def seed_word(seed: int, purpose: str) -> np.uint64:
    """64 bits that key `hashed_uniform` to a seed and a purpose."""
    return np.uint64(np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(1, np.uint64)[0])


def mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014), in place."""
    words ^= words >> np.uint64(30)
    words *= _MIX1
    words ^= words >> np.uint64(27)
    words *= _MIX2
    words ^= words >> np.uint64(31)
    return words


def scatter(values: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Integers to well-spread 64-bit words."""
    return mix((values.astype(np.uint64) + np.uint64(1)) * _GOLDEN)


def to_uniform(words: NDArray[np.uint64]) -> NDArray[np.float32]:
    """24 high bits of each word to a number strictly between 0 and 1."""
    floats = (words >> np.uint64(40)).astype(np.float32)
    floats += np.float32(0.5)
    floats *= np.float32(2.0**-24)
    return np.minimum(floats, np.float32(1 - 2.0**-24), out=floats)


def uuids(seed: int, purpose: str, count: int) -> list[str]:
    """Random-looking ids in UUID form, the same for the same arguments."""
    raw = generator(seed, purpose).bytes(16 * count)
    return [str(uuid.UUID(bytes=raw[16 * n : 16 * n + 16], version=4)) for n in range(count)]
