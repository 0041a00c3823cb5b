"""What the ranker does, free of HTTP: a batch of requests to ordered items, by one forward pass over all candidates.

Item features come from memory. Ids that the bundle does not know are dropped and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.api.common import Context, UserFeatures
from cascade.api.ranker import Composition, RankRequest
from cascade.features.spec import DEFAULT_EVENT_TYPE, ITEM_CATEGORICAL
from cascade.serving.errors import ModelFault
from cascade.serving.metrics import ServiceMetrics
from cascade.serving.reload import BundleHolder
from cascade.store.artifacts import RankerArtifacts
from services.ranker.affinities import affinities_of
from services.ranker.compose import Best, Drawn, Limit, MarginalRelevance, Rule, compose, unit_vectors
from services.ranker.histories import histories_of, recent_of
from services.ranker.rerank import Positions, Propensities, propensities, sample, top_k

_WARM_UP_CANDIDATES = 300
_CATEGORY_L1, _CATEGORY_L2 = (ITEM_CATEGORICAL.index(name) for name in ("category_l1", "category_l2"))


@dataclass(frozen=True)
class Ranked:
    """Item ids with click probabilities and propensities, in the order to show, and the bundle that ranked them."""

    item_ids: list[str]
    scores: list[float]
    propensities: list[float]
    unknown: int
    version: str
    track: str


@dataclass(frozen=True)
class Scored:
    """A request's known candidates, each once: positions [N] in the item table, probabilities float32 [N]."""

    positions: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    unknown: int


class RankerEngine:
    """Answers batches from whatever bundle the holder has when a batch starts."""

    def __init__(self, holder: BundleHolder[RankerArtifacts], metrics: ServiceMetrics) -> None:
        self._holder = holder
        self._metrics = metrics

    def rank(self, requests: Sequence[RankRequest]) -> list[Ranked | Exception]:
        """One answer a request: its items, or ModelFault. Raises NotReady without a bundle."""
        loaded = self._holder.current
        bundle = loaded.value
        answers: list[Ranked | Exception] = []
        for request, scored in zip(requests, score(bundle, requests), strict=True):
            self._metrics.unknown_ids.inc(scored.unknown)
            if not np.isfinite(scored.probabilities).all():
                answers.append(ModelFault("a click probability is not a number"))
                continue
            chosen, chances = _choose(bundle, request, scored)
            answers.append(
                Ranked(
                    bundle.items.ids(scored.positions[chosen]),
                    scored.probabilities[chosen].tolist(),
                    chances.tolist(),
                    scored.unknown,
                    loaded.version,
                    loaded.track,
                )
            )
        return answers


def warm_up(bundle: RankerArtifacts) -> None:
    """One request through everything, so that the first visitor does not pay for lazy set-up."""
    met = [f"0|{DEFAULT_EVENT_TYPE}|{item_id}" for item_id in bundle.items.item_ids[:1]]
    request = RankRequest.model_construct(
        user=UserFeatures(user_id="warm-up", recent=met),
        context=Context(timestamp=0),
        item_ids=bundle.items.item_ids[:_WARM_UP_CANDIDATES],
    )
    if not all(np.isfinite(scored.probabilities).all() for scored in score(bundle, [request])):
        raise ModelFault("the ranker gives probabilities that are not numbers")


def score(bundle: RankerArtifacts, requests: Sequence[RankRequest]) -> list[Scored]:
    """Click probabilities of each request's known candidates."""
    positions, unknown = zip(*(_known(bundle, request.item_ids) for request in requests), strict=True)
    if not any(map(len, positions)):
        return [Scored(rows, np.empty(0, np.float32), left) for rows, left in zip(positions, unknown, strict=True)]

    users = [request.user for request in requests]
    user = bundle.user_transform.encode(
        [user.user_id for user in users],
        [user.age for user in users],
        [user.gender for user in users],
        [user.top_category for user in users],
    )
    context = bundle.context_transform.encode(
        [request.context.device_type for request in requests], [request.context.timestamp for request in requests]
    )
    recent = recent_of(bundle, users, [request.context.timestamp for request in requests])
    probabilities = bundle.scorer.score(
        user.categorical,
        user.continuous,
        context.categorical,
        context.continuous,
        positions,
        histories_of(bundle, recent),
        affinities_of(bundle, user, context, recent, positions),
    )
    return [Scored(*part) for part in zip(positions, probabilities, unknown, strict=True)]


def _known(bundle: RankerArtifacts, item_ids: Sequence[str]) -> tuple[NDArray[np.int32], int]:
    """Positions of the ids that the bundle knows, each once, in the order received; and how many it does not know."""
    positions = bundle.items.positions(item_ids)
    ordered = np.sort(positions)
    if not len(ordered) or (ordered[0] >= 0 and (ordered[1:] != ordered[:-1]).all()):
        return positions, 0  # as requests are: all known, none twice
    positions = bundle.items.positions(list(dict.fromkeys(item_ids)))
    known = positions[positions >= 0]
    return known, len(positions) - len(known)


def _choose(bundle: RankerArtifacts, request: RankRequest, scored: Scored) -> tuple[Positions, Propensities]:
    """Positions to show, and the chance that each had: 1 where nothing was drawn."""
    probabilities = scored.probabilities
    if request.composition is not None:
        return _composed(bundle, request.composition, scored, request.k)
    if request.diversity is None:
        best = top_k(probabilities, request.k)
        return best, np.ones(len(best))
    temperature = request.diversity.temperature
    rng = np.random.default_rng(request.diversity.seed)  # without a seed: entropy of the machine
    drawn = sample(probabilities, request.k, temperature, rng)
    return drawn, propensities(probabilities, drawn, temperature)


def _composed(bundle: RankerArtifacts, wanted: Composition, scored: Scored, k: int) -> tuple[Positions, Propensities]:
    """The list put together place by place.

    Items are alike by picture and text, in memory anyway, rather than by the network's own vectors: these serve its
    dot products with users, change with each fine-tuning, and hold what sells beside what is seen.
    """
    items, positions, probabilities = bundle.items, scored.positions, scored.probabilities
    rng = np.random.default_rng(wanted.seed)  # without a seed: entropy of the machine
    rule: Rule = Best(probabilities)
    if wanted.mmr_lambda is not None:
        vectors = unit_vectors(items.image[positions], items.text[positions])
        rule = MarginalRelevance(probabilities, vectors, wanted.mmr_lambda)
    elif wanted.temperature is not None:
        rule = Drawn(probabilities, wanted.temperature, rng)
    # Items of categories that the bundle does not know count as of one.
    columns = ((_CATEGORY_L1, wanted.max_per_category_l1), (_CATEGORY_L2, wanted.max_per_category_l2))
    limits = [Limit(items.categorical[positions, at], most) for at, most in columns if most is not None]
    return compose(len(positions), k, rule, rng, limits=limits, exploration=wanted.exploration)
