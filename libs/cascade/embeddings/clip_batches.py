"""Which pairs share a batch when CLIP is trained.

Within a batch every text is a wrong answer to every other pair's picture. Shops repeat captions (a shirt in five
sizes), and a repeated caption would punish the model for a right answer, so a batch never holds one twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def caption_groups(tokens: NDArray[np.int64]) -> Rows:
    """tokens int64 [N, L] → int64 [N], equal for equal rows: texts that the text tower cannot tell apart."""
    seen: dict[bytes, int] = {}
    return np.fromiter((seen.setdefault(row.tobytes(), len(seen)) for row in tokens), np.int64, len(tokens))


@dataclass(frozen=True)
class Split:
    """Rows to train on and rows held out, both ascending; no caption is in both."""

    train: Rows
    held_out: Rows


def split_by_caption(groups: Rows, share: float, at_most: int, seed: int) -> Split:
    """Hold out whole captions, drawn with the seed, until `share` of the pairs or `at_most` of them are out.

    At least one caption is held out and at least two stay.
    """
    captions, sizes = np.unique(groups, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(captions))
    wanted = min(share * len(groups), at_most)
    taken = int(np.searchsorted(np.cumsum(sizes[order]), wanted)) + 1
    out = captions[order[: min(taken, len(captions) - 2)]]
    held_out = np.isin(groups, out)
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out))


def epoch_batches(rows: Rows, groups: Rows, batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """The batches of one epoch: the rows shuffled, of equal size up to one, no caption twice in a batch.

    rows: the rows to train on
    groups: int64 [N], of all rows, from `caption_groups`

    Depends on the seed and the epoch alone, so a resumed training sees what an uninterrupted one would.
    A caption that more rows carry than there are batches sits some of them out; which ones changes every epoch.
    """
    random = np.random.default_rng((seed, epoch))
    count = -(-len(rows) // batch_size)
    captions, caption = np.unique(groups[rows], return_inverse=True)
    # Rows of one caption stand side by side, captions in random order. Dealt out like cards to the batches,
    # neighbours land in different ones.
    key = random.permutation(len(captions))[caption]
    order = np.lexsort((random.random(len(rows)), key))
    place = np.arange(len(rows)) - np.searchsorted(key[order], key[order])  # position among its caption's rows
    dealt = rows[order[place < count]]
    batches = [dealt[first::count] for first in range(count)]
    return [batches[index] for index in random.permutation(count)]
