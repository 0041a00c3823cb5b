"""Who comes on a day, when, on what device, and for how many items: everything about a day but the choices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from cascade.data.generator import rng
from cascade.data.generator.config import ShopConfig
from cascade.data.generator.contexts import DAY_S, NO_DEVICE, context_rows
from cascade.data.generator.people import People

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

SESSION_LENGTH = 5.0
"""Mean number of items in a session."""
LONGEST_SESSION = 30
SESSION_GAP_S = 1200
"""Least pause between two sessions of a visitor."""
DEVICE_UNKNOWN_SHARE = 0.03
_EPOCH = date(1970, 1, 1)

# relative number of sessions by hour, for mobile, desktop and tablet
_HOURS = np.array(
    [
        [3, 2, 1, 1, 1, 2, 5, 9, 9, 7, 6, 6, 8, 7, 6, 6, 7, 8, 9, 10, 11, 11, 9, 6],
        [1, 1, 1, 1, 1, 1, 2, 4, 7, 10, 11, 11, 9, 10, 11, 11, 10, 8, 6, 6, 7, 6, 4, 2],
        [2, 1, 1, 1, 1, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 6, 7, 9, 12, 13, 12, 8, 4],
    ],
    float,
)


@dataclass(frozen=True)
class Visits:
    """E events of one day, sorted by user and time; a user's timestamps strictly increase.

    user: int32 [E]; timestamp: int64 [E]; device: int32 [E]; context: int32 [E]
    rank: int32 [E], 0 for the user's first event of the day, then 1, 2, ...
    """

    user: Ints
    timestamp: Longs
    device: Ints
    context: Ints
    rank: Ints

    def __len__(self) -> int:
        return len(self.user)


def draw_visits(config: ShopConfig, people: People, day: int) -> Visits:
    """The visits of day number `day`; they depend on nothing but the configuration, the people and the day."""
    random = rng.generator(config.seed, "visits", day)
    present = (people.first_day <= day).astype(np.float64)
    sessions = random.poisson(config.interactions_per_user_day / SESSION_LENGTH * people.activity * present)
    user = np.repeat(np.arange(len(sessions), dtype=np.int32), sessions)  # [sessions]
    device = _devices(people, user, random)
    start = _starts(device, random)
    device = np.where(random.random(len(user)) < DEVICE_UNKNOWN_SHARE, NO_DEVICE, device).astype(np.int32)
    length = np.minimum(random.geometric(1 / SESSION_LENGTH, len(user)), LONGEST_SESSION)

    order = np.lexsort((start, user))
    device, start, length = device[order], start[order], length[order]  # `user` is sorted already
    session = np.repeat(np.arange(len(user)), length)  # [E]
    first = np.cumsum(length) - length
    step = np.arange(len(session)) - first[session]  # place within the session
    pause = 15 + random.exponential(60, len(session)).astype(np.int64)
    elapsed = np.cumsum(pause)
    elapsed -= elapsed[first][session]
    last = elapsed[np.cumsum(length) - 1] if len(user) else elapsed
    start = _apart(user, start, last)
    second = start[session] + np.where(step > 0, elapsed, 0)

    keep = second < DAY_S  # the day ends at midnight, and so do its sessions
    owner = user[session][keep]
    opening = (config.first_day - _EPOCH).days * DAY_S + day * DAY_S
    used: Ints = device[session][keep].astype(np.int32)
    timestamp = second[keep].astype(np.int64) + opening
    return Visits(
        user=owner,
        timestamp=timestamp,
        device=used,
        context=context_rows(used, timestamp),
        rank=_ranks(owner),
    )


def _devices(people: People, user: Ints, random: np.random.Generator) -> NDArray[np.intp]:
    limits = np.cumsum(people.device_share[user], axis=1)
    device: NDArray[np.intp] = np.minimum((random.random((len(user), 1)) > limits).sum(axis=1), limits.shape[1] - 1)
    return device


def _starts(device: NDArray[np.intp], random: np.random.Generator) -> Longs:
    """Second of the day at which each session starts, by the device's daily curve."""
    limits = np.cumsum(_HOURS / _HOURS.sum(axis=1, keepdims=True), axis=1)
    draws = random.random(len(device))
    hour = np.zeros(len(device), np.int64)
    for d in range(len(_HOURS)):
        rows = device == d
        hour[rows] = np.minimum(np.searchsorted(limits[d], draws[rows]), 23)
    return hour * 3600 + random.integers(3600, size=len(device))


def _apart(user: Ints, start: Longs, duration: Longs) -> Longs:
    """Starts moved back where a session of the same user has not ended yet."""
    start = start.copy()
    rank = _ranks(user)
    for r in range(1, int(rank.max(initial=0)) + 1):
        rows = np.flatnonzero(rank == r)
        start[rows] = np.maximum(start[rows], start[rows - 1] + duration[rows - 1] + SESSION_GAP_S)
    return start


def _ranks(user: Ints) -> Ints:
    """Place of each row among its user's rows; `user` is sorted."""
    if not len(user):
        return np.zeros(0, np.int32)
    change = np.flatnonzero(np.diff(user, prepend=-1))
    return (np.arange(len(user)) - np.repeat(change, np.diff(np.append(change, len(user))))).astype(np.int32)
