"""What each model answers to the questions of an evaluation: the stages as they would serve, baselines, the oracle.

Shapes: R rows, I items (positions of the ranker's item table), K candidates, N negatives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cascade.features.history import Histories
from cascade.features.item_table import UNKNOWN, ItemTable
from cascade.features.spec import Encoded
from cascade.features.transforms import UserTransform
from cascade.index.exact import ExactIndex
from cascade.index.interface import CandidateIndex
from cascade.models.dlrm import Dlrm
from cascade.models.matches import EventHistories
from cascade.models.two_tower import CandidateTower, Mode
from cascade.training.ablation import Group, hide_context, hide_items, hide_users
from cascade.training.affinities import row_affinities
from cascade.training.baselines import Baseline, Met, top_positions
from cascade.training.errors import EvaluationError
from cascade.training.histories import ranker_histories
from cascade.training.negatives import UniformNegatives
from cascade.training.query_rows import query_vectors
from cascade.training.questions import Questions
from cascade.training.stages import Oracle, Ranker, Retrieval

Floats = NDArray[np.float32]
Positions = NDArray[np.int32]

NEGATIVES = 5
TWO_TOWER, CASCADE, ORACLE = "two-tower", "two-tower + DLRM", "oracle"
_RANKED_AT_ONCE = 64  # rows: 64 × 300 candidates
_SCORED_AT_ONCE = 512


@dataclass(frozen=True)
class Answer:
    """One model's answers: ranked positions int32 [R, K], -1 where a list ends; scores float [R, 1 + N] of the row's
    item and its negatives; whether these are probabilities of a click among them."""

    ranked: Positions
    scores: Floats
    calibrated: bool = False


def negatives_of(questions: Questions, items: int, seed: int) -> Positions:
    """Each row's item and N others drawn uniformly, int [R, 1 + N]."""
    drawn = UniformNegatives().draw(questions.item.astype(np.int64), NEGATIVES, items, np.random.default_rng(seed))
    return np.concatenate([questions.item[:, None], drawn.items], axis=1).astype(np.int32)


class Stages:
    """Retrieval and ranker of one release, asked as they serve; without a ranker, retrieval alone.

    items: the table whose positions questions and answers name
    hidden: a group of features that neither sees; with `tower`, the candidate tower, also as a feature of items
    """

    def __init__(
        self,
        retrieval: Retrieval,
        ranker: Ranker | None,
        items: ItemTable,
        *,
        candidates: int,
        exclude_seen: bool,
        hidden: Group | None = None,
        tower: CandidateTower | None = None,
    ) -> None:
        self._retrieval, self._ranker, self._hidden = retrieval, ranker, hidden
        self._candidates, self._exclude_seen = candidates, exclude_seen
        self._items = items
        self._index: CandidateIndex = retrieval.index
        self._mode: Mode = retrieval.query_tower.config.mode
        self._item_vectors = retrieval.item_vectors if self._mode == "session" else None
        item_ids = retrieval.item_ids
        if hidden is not None and hidden.touches_items:
            self._items = hide_items(items, hidden)
            if tower is not None:
                vectors = _vectors(tower, self._items)
                self._index, item_ids = ExactIndex(vectors), self._items.item_ids
                if self._item_vectors is not None:
                    self._item_vectors = vectors
        # The index and the item table may order the catalog differently.
        self._table_position = np.append(self._items.positions(item_ids), UNKNOWN)  # the last for padding, -1
        self._index_position = np.full(len(self._items), UNKNOWN, np.int64)
        known = np.flatnonzero(self._table_position[:-1] != UNKNOWN)
        self._index_position[self._table_position[known]] = known

    def answers(self, questions: Questions, scored: Positions) -> dict[str, Answer]:
        """The answers of retrieval, and of the whole cascade."""
        retrieved, two_tower = self._retrieve(questions, scored)
        found = {TWO_TOWER: two_tower}
        if self._ranker is not None:
            found[CASCADE] = self._rank(self._ranker, questions, retrieved, scored)
        return found

    def weighed(self, questions: Questions, shown: Positions) -> tuple[Positions, Floats, Floats]:
        """What re-ranking would draw from: retrieval's candidates int32 [R, K], -1 where they end, their probabilities
        float32 [R, K]; and those of the items `shown` [R, S], -1 for none.

        Raises EvaluationError without a ranker.
        """
        if self._ranker is None:
            raise EvaluationError("there is no ranker, so there are no probabilities to draw by; give one")
        retrieved, _ = self._retrieve(questions, np.zeros((len(questions), 0), np.int32))
        chances = self._chances(self._ranker, questions, np.concatenate([retrieved, shown], axis=1))
        return retrieved, chances[:, : retrieved.shape[1]], chances[:, retrieved.shape[1] :]

    def _users(self, transform: UserTransform, questions: Questions) -> Encoded:
        users = transform.transform(questions.table)
        return users if self._hidden is None else hide_users(users, self._hidden, transform)

    def _retrieve(self, questions: Questions, scored: Positions) -> tuple[Positions, Answer]:
        """The candidates of each row in retrieval's order, and retrieval's scores."""
        queries = self._queries(questions)
        deepest = int(questions.history.counts.max(initial=0)) if self._exclude_seen else 0
        _, found = self._index.search(queries, min(self._candidates + deepest, self._index.count))
        positions = self._table_position[found]
        ranked = np.full((len(queries), self._candidates), UNKNOWN, np.int32)
        for row, line in enumerate(positions):
            kept = line[line != UNKNOWN]
            if self._exclude_seen:
                kept = kept[~np.isin(kept, questions.history.seen(row))]
            ranked[row, : len(kept[: self._candidates])] = kept[: self._candidates]
        vectors = np.zeros((len(self._items), queries.shape[1]), np.float32)
        for at in np.unique(scored):
            if self._index_position[at] != UNKNOWN:
                vectors[at] = self._index.reconstruct(int(self._index_position[at]))
        scores = np.einsum("rd,rnd->rn", queries, vectors[scored])
        return ranked, Answer(ranked, scores)

    def _queries(self, questions: Questions) -> Floats:
        """The rows' vectors, as far as the query tower's mode reads them, float32 [R, D]."""
        users = self._users(self._retrieval.user_transform, questions)
        mode = self._mode
        # Only what the mode reads is asked for: a bundle of mode static need not have the rest.
        where = None if mode == "static" else self._retrieval.context_transform
        context = None if where is None else where.transform(questions.table)
        if context is not None and self._hidden is not None:
            context = hide_context(context, self._hidden)
        histories = self._history(questions, self._index_position) if mode == "session" else None
        moments = np.asarray(questions.table.column("timestamp"), np.int64)
        return query_vectors(self._retrieval.query_tower, users, context, histories, moments, self._item_vectors)

    def _rank(self, ranker: Ranker, questions: Questions, retrieved: Positions, scored: Positions) -> Answer:
        """The candidates in the ranker's order, and its probabilities."""
        width = retrieved.shape[1]
        chance = self._chances(ranker, questions, np.concatenate([retrieved, scored], axis=1))
        among = np.where(retrieved == UNKNOWN, -1.0, chance[:, :width])
        order = np.argsort(-among, axis=1, kind="stable")
        return Answer(np.take_along_axis(retrieved, order, axis=1), chance[:, width:], calibrated=True)

    def _chances(self, ranker: Ranker, questions: Questions, items: Positions) -> Floats:
        """The ranker's probabilities of items [R, N], float32 [R, N]; those at -1 say nothing."""
        users = self._users(ranker.user_transform, questions)
        context = ranker.context_transform.transform(questions.table)
        if self._hidden is not None:
            context = hide_context(context, self._hidden)
        moments = np.asarray(questions.table.column("timestamp"), np.int64)
        config = ranker.dlrm.config
        affinity = ranker.dlrm.affinity_over(self._items)
        histories = self._history(questions, np.arange(len(self._items))) if ranker.dlrm.events_read else None
        chances = np.empty(items.shape, np.float32)
        for start in range(0, len(items), _RANKED_AT_ONCE):
            part = slice(start, start + _RANKED_AT_ONCE)
            of_rows = None if histories is None else histories.take(part)
            read = ranker_histories(config, of_rows, moments[part], self._items)
            user, where, wanted = users.take(part), context.take(part), np.maximum(items[part], 0)
            offset = None if affinity is None else row_affinities(affinity, user, where, of_rows, moments[part], wanted)
            chances[part] = self._probabilities(ranker.dlrm, user, where, read, wanted, offset)
        return chances

    def _history(self, questions: Questions, places: NDArray[np.integer]) -> Histories:
        """The rows' histories, of items at their places int [I]; none where they are hidden."""
        if self._hidden is not None and self._hidden.history:
            return Histories.empty(len(questions))
        return questions.history.as_read(np.append(places, UNKNOWN).astype(np.int32))

    def _probabilities(
        self,
        dlrm: Dlrm,
        user: Encoded,
        context: Encoded,
        histories: EventHistories | None,
        items: Positions,
        offset: Floats | None,
    ) -> Floats:
        """The ranker on B rows and items [B, N], with what an affinity adds to their logits [B, N] → float32 [B, N]."""
        table, flat = self._items, items.ravel()
        rows = np.repeat(np.arange(len(items)), items.shape[1])
        chance = dlrm.predict(
            np.concatenate([user.categorical[rows], table.categorical[flat], context.categorical[rows]], axis=1),
            np.concatenate([user.continuous[rows], table.continuous[flat], context.continuous[rows]], axis=1),
            table.image[flat],
            table.text[flat],
            histories,
            rows,
            None if offset is None else offset.ravel(),
        )
        return chance.reshape(items.shape)


class Others:
    """Baselines and, on a generated shop, the oracle."""

    def __init__(
        self,
        baselines: Mapping[str, Baseline],
        met: Met,
        oracle: Oracle | None,
        items: ItemTable,
        *,
        candidates: int,
        exclude_seen: bool,
    ) -> None:
        self._baselines, self._met, self._oracle, self._items = baselines, met, oracle, items
        self._candidates, self._exclude_seen = candidates, exclude_seen

    def answers(self, questions: Questions, scored: Positions) -> dict[str, Answer]:
        """The answers of each."""
        users = self._met.rows_of(questions.table.column("user_id"))
        history = questions.history.matrix(len(self._items))
        found = {}
        for name, baseline in self._baselines.items():

            def scores(part: slice, by: Baseline = baseline) -> Floats:
                return by.scores(users[part], history[part])

            found[name] = self._lists(questions, scored, scores)
        if self._oracle is not None:
            found[ORACLE] = self._lists(questions, scored, self._chances(questions, self._oracle))
        return found

    def _chances(self, questions: Questions, oracle: Oracle) -> Callable[[slice], Floats]:
        user_ids = questions.table.column("user_id").cast(pa.string()).fill_null("").to_pylist()
        times = questions.table.column("timestamp").to_numpy().astype(np.int64)
        devices, history = questions.devices, questions.history.ids()

        def chances(part: slice) -> Floats:
            return oracle.click_probability(
                user_ids[part], self._items.item_ids, devices[part], times[part], history[part]
            )

        return chances

    def _lists(self, questions: Questions, scored: Positions, scores_of: Callable[[slice], Floats]) -> Answer:
        """Scores float32 [B, I] of each part of the rows → the best K of each row."""
        ranked = np.full((len(questions), self._candidates), UNKNOWN, np.int32)
        scores = np.empty(scored.shape, np.float32)
        for start in range(0, len(questions), _SCORED_AT_ONCE):
            part = slice(start, start + _SCORED_AT_ONCE)
            values = np.array(scores_of(part))
            scores[part] = np.take_along_axis(values, scored[part], axis=1)
            if self._exclude_seen:
                for row in range(len(values)):
                    values[row, questions.history.seen(start + row)] = -np.inf
            top = top_positions(values, self._candidates)
            top[np.take_along_axis(values, top, axis=1) == -np.inf] = UNKNOWN
            ranked[part, : top.shape[1]] = top
        return Answer(ranked, scores)


def _vectors(tower: CandidateTower, items: ItemTable) -> Floats:
    return tower.predict(items.categorical, items.continuous, items.image, items.text)
