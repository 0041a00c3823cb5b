"""Dataset folders of ids and timestamps alone, of three kinds of shop, drawn by a seed.

- taste: a user's wants follow from factors of his own and from popularity, whatever he met before; nothing twice
- sequence: what comes next is like the last three items met; nothing twice
- sparse: many users of few interactions, items in groups of which one follows another, a seventh of them repeats
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

START = int(dt.datetime(2024, 1, 1, tzinfo=dt.UTC).timestamp())
_DAY_S = 86_400
Doubles = NDArray[np.float64]
Items = NDArray[np.int64]


def taste(rng: np.random.Generator, users: int = 1_000) -> list[Items]:
    """The items of each user, in their order: 1,700 items, about 70 a user, twelve factors."""
    items, factors = 1_700, 12
    wants, offers = rng.normal(size=(users, factors)), rng.normal(size=(items, factors))
    popularity = _popularity(items, 1.1) + 0.3 * rng.normal(size=items)
    found = []
    for user in range(users):
        count = _count(rng, 70, items)
        utility = 1.6 * (offers @ wants[user]) / np.sqrt(factors) + popularity + rng.gumbel(size=items)
        best = np.argsort(-utility)[:count]
        # The most wanted first, roughly.
        found.append(best[np.argsort(np.arange(count) + 0.3 * count * rng.normal(size=count))])
    return found


def sequence(rng: np.random.Generator, users: int = 1_500) -> list[Items]:
    """Likewise: 2,500 items, about 50 a user."""
    items, factors = 2_500, 16
    offers = rng.normal(size=(items, factors))
    offers /= np.linalg.norm(offers, axis=1, keepdims=True)
    wants, popularity = 0.2 * rng.normal(size=(users, factors)), _popularity(items, 0.8)
    found = []
    for user in range(users):
        met: list[int] = []
        free = np.zeros(items)
        for _ in range(_count(rng, 50, items)):
            towards = wants[user] + (offers[met[-3:]].mean(axis=0) if met else 0.0)
            met.append(int(np.argmax(7 * (offers @ towards) + popularity + rng.gumbel(size=items) + free)))
            free[met[-1]] = -np.inf
        found.append(np.array(met))
    return found


def sparse(rng: np.random.Generator, users: int = 12_000) -> list[Items]:
    """Likewise: 6,000 items in 150 groups, about 7 a user."""
    items, groups, factors = 6_000, 150, 8
    group = rng.integers(0, groups, items)
    offers = rng.normal(size=(groups, factors))[group] + 0.5 * rng.normal(size=(items, factors))
    popularity = rng.permutation(_popularity(items, 1.0))
    found = []
    for _ in range(users):
        utility = 1.2 * (offers @ rng.normal(size=factors)) + popularity
        met: list[int] = []
        for _ in range(int(np.clip(rng.geometric(1 / 7), 2, 200))):
            if met and rng.random() < 0.15:
                met.append(met[rng.integers(len(met))])
                continue
            follows = 2.5 * (group == group[met[-1]]) if met else 0.0
            met.append(int(np.argmax(utility + follows + rng.gumbel(size=items))))
        found.append(np.array(met))
    return found


KINDS: dict[str, tuple[Callable[[np.random.Generator], list[Items]], int]] = {
    "taste": (taste, 200),
    "sequence": (sequence, 60),
    "sparse": (sparse, 300),
}
"""Who draws a kind's users, and over how many days they are spread."""


def write_folder(kind: str, root: Path, seed: int) -> int:
    """Write the folder, and return the number of interactions."""
    draw, days = KINDS[kind]
    rng = np.random.default_rng(seed)
    each = draw(rng)
    counts = [len(items) for items in each]
    moments = [_moments(rng, count, days) for count in counts]
    user, item, moment = np.repeat(np.arange(len(each)), counts), np.concatenate(each), np.concatenate(moments)
    order = np.argsort(moment, kind="stable")
    user, item, moment = user[order], item[order], moment[order]
    starts = np.flatnonzero(np.diff(moment // _DAY_S, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(moment)], strict=True):
        day = dt.date(1970, 1, 1) + dt.timedelta(days=int(moment[start]) // _DAY_S)
        folder = root / "interactions" / f"date={day}"
        folder.mkdir(parents=True)
        table = pa.table(
            {
                "user_id": [f"u{one}" for one in user[start:end]],
                "item_id": [f"i{one}" for one in item[start:end]],
                "timestamp": moment[start:end],
            }
        )
        pq.write_table(table, folder / "part.parquet")
    return len(moment)


def _popularity(items: int, slope: float) -> Doubles:
    found: Doubles = -slope * np.log(np.arange(1, items + 1) + 10)
    return found


def _count(rng: np.random.Generator, mean: int, items: int) -> int:
    return int(np.clip(rng.lognormal(np.log(mean) - 0.4, 0.9), 5, items // 4))


def _moments(rng: np.random.Generator, count: int, days: int) -> Items:
    """Of one user: some days on end, beginning on any of them."""
    start = rng.uniform(0, 0.9 * days)
    end = min(start + 0.05 + rng.exponential(days / 12), days)
    moments: Items = START + (np.sort(rng.uniform(start, end, count)) * _DAY_S).astype(np.int64)
    return moments
