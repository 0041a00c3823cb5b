"""What a click probability is made of, computed when somebody asks and never on a request's way.

Each of five parts of the input (user, item, context, picture, text) can be made unknown: ids and categories become the
out-of-vocabulary row, numbers their training mean, an embedding the catalog's mean. What a visitor did lately is part
of the user, and unknown it is nothing: what an item has in common with it goes to the user's part and the item's, by
the orders in which they become known. The network is asked about all 2⁵
combinations in one pass, and a part's share is its Shapley value: what knowing it adds to the log-odds, averaged over
the orders in which the parts can become known (Shapley 1953; Lundberg and Lee, "A unified approach to interpreting
model predictions", 2017). The values sum to the whole difference between everything known and nothing known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cascade.api.explain import PARTS, AttributionRequest, AttributionResponse, LikedItem, PartShare
from cascade.features.item_table import UNKNOWN, ItemTable
from cascade.features.spec import Encoded
from cascade.serving.errors import ModelFault, UnknownItem
from cascade.serving.reload import Loaded
from cascade.store.artifacts import RankerArtifacts
from services.ranker.affinities import columns_of
from services.ranker.histories import Recent, histories_of, recent_of

if TYPE_CHECKING:
    from cascade.models.matches import EventHistories

Floats = NDArray[np.floating[Any]]

_SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1, where log-odds end."""


@dataclass(frozen=True)
class _Inputs:
    """What the network takes, [1, …] each, by part: (categorical, continuous) of the first three, then embeddings."""

    user: tuple[NDArray[np.int32], Floats]
    item: tuple[NDArray[np.int32], Floats]
    context: tuple[NDArray[np.int32], Floats]
    image: Floats
    text: Floats
    histories: EventHistories | None
    """of the user, one; None where the ranker reads none"""

    def known(self, part: str) -> tuple[Any, ...]:
        """A part as a tuple of arrays."""
        value = getattr(self, part)
        return value if isinstance(value, tuple) else (value,)


def attribute(loaded: Loaded[RankerArtifacts], request: AttributionRequest) -> AttributionResponse:
    """The parts of one item's click probability. Raises UnknownItem and ModelFault."""
    bundle = loaded.value
    (position,) = bundle.items.positions([request.item_id]).tolist()
    if position == UNKNOWN:
        raise UnknownItem(f"no item {request.item_id!r} in the ranker's bundle {loaded.version}")
    recent = recent_of(bundle, [request.user], [request.context.timestamp])
    probabilities = _of_subsets(bundle, _inputs(bundle, request, position, recent), _nothing(bundle), position, recent)
    if not np.isfinite(probabilities).all():
        raise ModelFault("a click probability is not a number")
    values = shapley(_log_odds(probabilities))
    total = np.abs(values).sum()
    everything = len(probabilities) - 1
    return AttributionResponse(
        click_probability=float(probabilities[everything]),
        baseline_probability=float(probabilities[0]),
        parts=[
            PartShare(
                part=part,
                logit=float(value),
                share=float(abs(value) / total) if total > 0 else 0.0,
                without=float(probabilities[everything ^ (1 << at)]),
            )
            for at, (part, value) in enumerate(zip(PARTS, values, strict=True))
        ],
        liked=compare(bundle.items, position, request.liked),
        version=loaded.version,
        track=loaded.track,
    )


def shapley(values: Floats) -> Floats:
    """Shapley values [n] of a game, from the value of every subset of its n players.

    values: [2^n]; bit i of the place says whether player i takes part
    """
    players = int(math.log2(len(values)))
    found = np.zeros(players)
    for subset in range(len(values)):
        size = subset.bit_count()
        for player in range(players):
            if not subset >> player & 1:
                weight = math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players)
                found[player] += weight * (values[subset | 1 << player] - values[subset])
    return found


def compare(items: ItemTable, position: int, liked: Sequence[str]) -> list[LikedItem]:
    """How like the liked items an item is, by picture and text; the most similar first, itself left out."""
    ids = list(dict.fromkeys(liked))
    positions = items.positions(ids) if ids else np.empty(0, np.int32)
    rows = [(one, int(at)) for one, at in zip(ids, positions, strict=True) if at not in (UNKNOWN, position)]
    if not rows:
        return []
    at = np.array([row for _, row in rows])
    image, text = (_cosines(table[position], table[at]) for table in (items.image, items.text))
    mean = (image + text) / 2
    return [
        LikedItem(
            item_id=rows[place][0],
            image_similarity=float(image[place]),
            text_similarity=float(text[place]),
            similarity=float(mean[place]),
        )
        for place in np.argsort(-mean, kind="stable").tolist()
    ]


def _inputs(bundle: RankerArtifacts, request: AttributionRequest, position: int, recent: Recent | None) -> _Inputs:
    user, context, items = request.user, request.context, bundle.items
    users = bundle.user_transform.encode([user.user_id], [user.age], [user.gender], [user.top_category])
    contexts = bundle.context_transform.encode([context.device_type], [context.timestamp])
    row = slice(position, position + 1)
    return _Inputs(
        (users.categorical, users.continuous),
        (items.categorical[row], items.continuous[row]),
        (contexts.categorical, contexts.continuous),
        items.image[row],
        items.text[row],
        histories_of(bundle, recent),
    )


def _nothing(bundle: RankerArtifacts) -> _Inputs:
    """Every part unknown. Standardised numbers have mean 0, and so have the hour and weekday on their circles."""
    users = bundle.user_transform.encode([None], [None], [None], [None])
    contexts = bundle.context_transform.encode([None], [0])
    items = bundle.items
    return _Inputs(
        (users.categorical, users.continuous),
        (np.zeros_like(items.categorical[:1]), np.zeros_like(items.continuous[:1])),
        (contexts.categorical, np.zeros_like(contexts.continuous)),
        items.image.mean(axis=0, keepdims=True),
        items.text.mean(axis=0, keepdims=True),
        None,
    )


def _of_subsets(bundle: RankerArtifacts, full: _Inputs, empty: _Inputs, position: int, recent: Recent | None) -> Floats:
    """Click probabilities [32]; bit i of the place says whether part i is known."""
    subsets = range(1 << len(PARTS))
    columns: dict[str, list[NDArray[Any]]] = {}
    for at, part in enumerate(PARTS):
        choices = zip(empty.known(part), full.known(part), strict=True)
        columns[part] = [
            np.concatenate([known if subset >> at & 1 else unknown for subset in subsets]) for unknown, known in choices
        ]
    categorical, continuous = (
        np.concatenate([columns[part][kind] for part in ("user", "item", "context")], axis=1) for kind in (0, 1)
    )
    # An unknown user's events are none of them there.
    known = _known("user")
    histories = full.histories
    if histories is not None:
        histories = replace(histories.take(np.zeros(len(known), np.int64)), there=histories.there & known[:, None])
    if recent is not None:
        items, types, ages = recent
        items = np.where(known[:, None], np.repeat(items, len(known), axis=0), np.int32(UNKNOWN))
        recent = items, np.repeat(types, len(known), axis=0), np.repeat(ages, len(known), axis=0)
    user, context = (Encoded(*columns[part]) for part in ("user", "context"))
    offset = _offsets(bundle, user, context, position, recent)
    probabilities = bundle.dlrm.predict(
        categorical, continuous, columns["image"][0], columns["text"][0], histories, offset=offset
    )
    return probabilities.astype(np.float64)


def _offsets(
    bundle: RankerArtifacts, user: Encoded, context: Encoded, position: int, recent: Recent | None
) -> NDArray[np.float32] | None:
    """What an affinity adds to the logits [32]: of the item where it is known, else of one like the whole catalog, as
    picture and text are a part of it."""
    affinity = bundle.affinity
    if affinity is None:
        return None
    visitors = *columns_of(affinity, user, context), recent
    known = np.concatenate(affinity.logits(*visitors, [np.array([position])] * len(user)))
    return np.where(_known("item"), known, affinity.typical(*visitors))


def _known(part: str) -> NDArray[np.bool_]:
    """In which of the 32 subsets a part is known."""
    return np.array([subset >> PARTS.index(part) & 1 for subset in range(1 << len(PARTS))], bool)


def _log_odds(probabilities: Floats) -> Floats:
    kept = np.clip(probabilities, _SMALLEST, 1 - _SMALLEST)
    odds: Floats = np.log(kept) - np.log1p(-kept)
    return odds


def _cosines(one: Floats, others: Floats) -> Floats:
    """[N]; 0 where either is zero (no picture)."""
    norms = np.linalg.norm(one) * np.linalg.norm(others, axis=1)
    cosines: Floats = np.divide(others @ one, norms, out=np.zeros(len(others)), where=norms > 0)
    return np.clip(cosines, -1.0, 1.0)
