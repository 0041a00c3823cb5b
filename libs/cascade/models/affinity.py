"""Affinity: what others than the network say of a visitor and an item, as a part of a ranker's logit.

Two-tower models learn from thousands of negatives at once what goes with what, a linear item-to-item model remembers
single pairs of items; a ranker learns from a handful of negatives, and from more features. Their logits are added, the
others' with weights fitted on rows that none of them learned from (stacking, Wolpert 1992): learned together with the
ranker, their confidence on their own training rows would be believed.

A ranker carries towers of its own, as they were when it was trained: the retrieval that serves may be of another day.

Shapes: B visitors, L events of the longest history, I items, D the dimension of the towers' vectors, N_b candidates.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cascade.files import replacing
from cascade.models.arrays import Floats, Rows
from cascade.models.errors import ModelFileError
from cascade.models.history import HistoryArrays
from cascade.models.item_to_item import ItemToItem
from cascade.models.query_encoder import QueryEncoder, make_encoder
from cascade.models.two_tower import Mode, TwoTower

if TYPE_CHECKING:
    from cascade.models.dlrm_split import ItemFeatures

Events = tuple[Rows, Rows, NDArray[np.int64]]
"""What visitors did lately, newest first: positions of items int32 [B, L] (-1 for none), types int32 [B, L], ages int64
[B, L]. None in their place: nobody did anything yet."""

_WEIGHT, _ITEM_TO_ITEM = "affinity.json", "item_to_item.safetensors"
_ITEM_ID, _UNKNOWN = 0, np.int32(0)
"""an item's first column is its id, row 0 of whose table is of ids that are not known"""
_FEW = 64
"""visitors up to which NumPy is faster than torch"""
_MOST_STAND_INS = 2_000
"""new items that are compared with all known ones: some seconds where a million are known"""


@dataclass(frozen=True)
class Affinity:
    """Both towers with what their score counts for in the ranker's logit, and what items say of items.

    item_to_item: its weights are those in the logit; None: there is none
    refusals: rows of the event types that say no to an item, which is then not among those met
    votes: of how many of a visitor's latest events the items vote
    """

    towers: TwoTower
    weight: float
    item_to_item: ItemToItem | None = None
    refusals: tuple[int, ...] = ()
    votes: int = 0

    @property
    def events_read(self) -> int:
        """The most events of a visitor that any part reads."""
        return max(self.towers.config.history_length, self.votes if self.item_to_item is not None else 0)

    def over(self, items: ItemFeatures) -> ItemAffinity:
        """For a catalog: its vectors are computed once."""
        vectors = self.towers.candidate.predict(items.categorical, items.continuous, items.image, items.text)
        ids = items.categorical[:, _ITEM_ID]
        if self.item_to_item is not None:
            ids = stand_ins(ids, items.image, items.text)
        return ItemAffinity(self, vectors, np.append(ids, _UNKNOWN))

    def save(self, folder: Path) -> None:
        """Write the parts into `folder`."""
        self.towers.save(folder)
        if self.item_to_item is not None:
            self.item_to_item.save(folder / _ITEM_TO_ITEM)
        with replacing(folder / _WEIGHT) as beside:
            said = {"weight": self.weight, "refusals": list(self.refusals), "votes": self.votes}
            beside.write_text(json.dumps(said) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Affinity:
        """What `save` wrote. Raises ModelFileError."""
        try:
            said = json.loads((folder / _WEIGHT).read_text(encoding="utf-8"))
            weight = float(said["weight"])
            refusals, votes = tuple(map(int, said.get("refusals", ()))), int(said.get("votes", 0))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFileError(f"{folder / _WEIGHT} holds no weight ({error}); save the model again") from error
        links = ItemToItem.load(folder / _ITEM_TO_ITEM) if (folder / _ITEM_TO_ITEM).is_file() else None
        return cls(TwoTower.load(folder), weight, links, refusals, votes)


@dataclass(frozen=True)
class ItemAffinity:
    """An affinity over a catalog.

    vectors: float32 [I, D], the candidate tower's
    ids: int32 [I + 1], rows of the item ids' table, of new items those of what they look like (`stand_ins`); the last
        is the unknown one's, of an event at -1
    """

    affinity: Affinity
    vectors: Floats
    ids: Rows

    @property
    def mode(self) -> Mode:
        """What the query tower reads."""
        return self.affinity.towers.config.mode

    @cached_property
    def _encoder(self) -> QueryEncoder:
        return make_encoder(self.affinity.towers.query, torch.device("cpu"))

    @cached_property
    def _typical(self) -> Floats:
        mean: Floats = self.vectors.mean(axis=0)
        return mean

    def logits(
        self, categorical: Rows, continuous: Floats, events: Events | None, positions: Sequence[NDArray[np.integer]]
    ) -> list[Floats]:
        """What to add to the ranker's logits: float32 [N_b] of each visitor's items.

        categorical, continuous: the user's columns and, but in mode static, the moment's
        positions: of items, one array a visitor
        """
        queries = self.queries(categorical, continuous, events) * np.float32(self.affinity.weight)
        found = [self.vectors[at] @ query for query, at in zip(queries, positions, strict=True)]
        if self.affinity.item_to_item is not None and events is not None:
            for said, more in zip(found, self.of_items(events, positions), strict=True):
                said += more
        return found

    def typical(self, categorical: Rows, continuous: Floats, events: Events | None) -> Floats:
        """Likewise of an item of which nothing is known, float32 [B]: the mean of the catalog, which no item met says
        anything of."""
        found: Floats = self.queries(categorical, continuous, events) @ self._typical * np.float32(self.affinity.weight)
        return found

    def of_items(self, events: Events, positions: Sequence[NDArray[np.integer]]) -> list[Floats]:
        """What the items met say of each visitor's, float32 [N_b]; zeros without such a model."""
        links = self.affinity.item_to_item
        if links is None:
            return [np.zeros(len(at), np.float32) for at in positions]
        items, types = (part[:, : self.affinity.votes] for part in events[:2])
        met = np.where(np.isin(types, self.affinity.refusals), _UNKNOWN, self.ids[items])  # [B, L]
        return [links.scores(mine, self.ids[at]) for mine, at in zip(met, positions, strict=True)]

    def queries(self, categorical: Rows, continuous: Floats, events: Events | None) -> Floats:
        """Visitors in the space of the towers, float32 [B, D]."""
        if self.mode != "session":
            return self._encoder.predict(categorical, continuous)
        length = self.affinity.towers.config.history_length
        if events is None:
            none = np.zeros((len(categorical), 0), np.int32)
            events = none, none, none.astype(np.int64)
        items, types, ages = events
        history = HistoryArrays.gather(items[:, :length], types[:, :length], ages[:, :length], self.vectors)
        if len(categorical) > _FEW:
            return self.affinity.towers.query.predict(categorical, continuous, history)
        return self._encoder.predict(categorical, continuous, history)


def stand_ins(ids: Rows, image: Floats, text: Floats) -> Rows:
    """For each item whose id is not known (row 0) the row of the known one most alike in picture and text, int32 [I].

    Training met no such item, so nothing votes for it, while everything beside it has votes: it would stand behind all
    of them. An item without picture and text stays unknown, and so do those beyond the first two thousand.
    ids: int32 [I]; image, text: float32 [I, ·]
    """
    new, known = np.flatnonzero(ids == _UNKNOWN)[:_MOST_STAND_INS], np.flatnonzero(ids != _UNKNOWN)
    if not len(new) or not len(known):
        return ids
    of_known = _directions(image[known], text[known])
    found = ids.copy()
    for start in range(0, len(new), _FEW):
        some = new[start : start + _FEW]
        mine = _directions(image[some], text[some])
        nearest = known[np.argmax(mine @ of_known.T, axis=1)]
        found[some] = np.where(mine.any(axis=1), ids[nearest], _UNKNOWN)
    return found


def _directions(image: Floats, text: Floats) -> Floats:
    """Both, each of unit length where there is any, side by side, float32 [n, ·]."""
    parts = [part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12) for part in (image, text)]
    joined: Floats = np.concatenate(parts, axis=1).astype(np.float32)
    return joined
