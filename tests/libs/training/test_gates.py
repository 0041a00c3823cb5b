"""A harmed model is refused, an equal one passes, and what cannot be judged says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cascade.features.item import ItemTransform
from cascade.features.item_table import ItemTable
from cascade.features.transforms import ContextTransform, UserTransform
from cascade.index.build import build_index
from cascade.models import Dlrm, DlrmConfig, TwoTower, TwoTowerConfig
from cascade.store.artifacts import RankerArtifacts, RetrievalArtifacts
from cascade.training.dlrm_training import DlrmTraining, train_dlrm
from cascade.training.errors import EvaluationError
from cascade.training.gates import (
    ALL,
    AUC,
    CALIBRATION,
    NDCG,
    NEW_ITEMS,
    NEW_USERS,
    RANKER_METRICS,
    RECALL,
    RETRIEVAL_METRICS,
    Tolerances,
    Verdict,
    judge,
    judged_rows,
    measure_ranker,
    measure_retrieval,
    slices_of,
)
from cascade.training.loop import LoopConfig
from cascade.training.two_tower_training import TwoTowerTraining, train_two_tower

USERS, ITEMS, BLOCKS = 60, 160, 8


@dataclass
class Served:
    rows: pa.Table
    towers: TwoTower
    retrieval: RetrievalArtifacts
    ranker: RankerArtifacts

    def with_query(self, towers: TwoTower) -> RetrievalArtifacts:
        return RetrievalArtifacts(
            self.retrieval.user_transform, towers.query, self.retrieval.index, self.retrieval.item_ids
        )

    def with_dlrm(self, dlrm: Dlrm) -> RankerArtifacts:
        return RankerArtifacts(self.ranker.user_transform, self.ranker.context_transform, self.ranker.items, dlrm)


@pytest.fixture(scope="module")
def served() -> Served:
    """Trained models of a shop in which everybody wants the items of his own block, and rows that ask them."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    block = np.arange(ITEMS) % BLOCKS
    items = pa.table(
        {
            "item_id": [f"i{n}" for n in range(ITEMS)],
            "category_l1": [f"c{b}" for b in block],
            "category_l2": [f"d{b}" for b in block],
            "price": pa.array(rng.uniform(5, 50, ITEMS), pa.float32()),
            "gender": ["F"] * ITEMS,
        }
    )
    users = pa.table(
        {"user_id": [f"u{n}" for n in range(USERS)], "age": pa.array([30] * USERS, pa.int32()), "gender": ["F"] * USERS}
    )
    known = [f"i{n}" for n in range(ITEMS - 8)]  # the last eight came later
    user = UserTransform.fit(users, [f"c{b}" for b in range(BLOCKS)])
    item = ItemTransform.fit(items, known)
    where = ContextTransform.fit(pa.table({"device_type": ["mobile", "desktop"]}))
    content = rng.normal(size=(BLOCKS, 64)).astype(np.float32)[block] / 8
    table = ItemTable.build(items, item, content, content[:, ::-1].copy())

    def draw(count: int, people: int, new_items: bool) -> pa.Table:
        who = rng.integers(0, people, count)
        inside = rng.integers(0, ITEMS // BLOCKS - (0 if new_items else 1), count)
        devices = ["mobile", "desktop", None]
        return pa.table(
            {
                "user_id": [f"u{n}" for n in who],
                "item_id": [f"i{b + BLOCKS * n}" for b, n in zip(who % BLOCKS, inside, strict=True)],
                "timestamp": np.arange(count, dtype=np.int64),
                "device_type": [devices[n] for n in rng.integers(0, 3, count)],
                "age": pa.array([30] * count, pa.int64()),
                "gender": ["F"] * count,
                "top_category": [f"c{b}" for b in who % BLOCKS],
            }
        )

    from cascade.features.training_set import TrainingSet

    learned = draw(4000, USERS, False)
    train = TrainingSet(
        user.transform(learned),
        where.transform(learned),
        table.positions(learned.column("item_id")),
        np.asarray(learned.column("timestamp")),
    )
    towers, _ = train_two_tower(
        train, None, table, TwoTowerConfig(user.cardinalities, 1, item.cardinalities, 1),
        TwoTowerTraining(loop=LoopConfig(epochs=4, batch=256, learning_rate=1e-2)), seed=1,
    )  # fmt: skip
    dlrm, _ = train_dlrm(
        train, None, table, DlrmConfig(user.cardinalities, item.cardinalities, where.cardinalities, 1, 1, 4),
        DlrmTraining(loop=LoopConfig(epochs=3, batch=256, learning_rate=1e-2)), seed=1,
    )  # fmt: skip
    vectors = towers.candidate.predict(table.categorical, table.continuous, table.image, table.text)
    index, _ = build_index(vectors, source=towers.candidate.fingerprint())
    return Served(
        draw(900, USERS + 20, True),
        towers,
        RetrievalArtifacts(user, towers.query, index, table.item_ids),
        RankerArtifacts(user, where, table, dlrm),
    )


@pytest.fixture
def slices(served: Served) -> dict[str, Any]:
    return slices_of(served.rows, served.retrieval.user_transform, served.ranker.items)


def harmed(module: torch.nn.Module, of: Callable[[], Any]) -> Any:
    """The same network with each weight tensor's values shuffled: nothing is off in shape, norm or checksum."""
    copy = of()
    generator = torch.Generator().manual_seed(3)
    state = {}
    for name, value in module.state_dict().items():
        flat = value.flatten()
        state[name] = flat[torch.randperm(len(flat), generator=generator)].reshape(value.shape) if flat.ndim else value
    copy.load_state_dict(state)
    return copy.eval()


def judge_retrieval(served: Served, slices: Any, candidate: RetrievalArtifacts, **tolerances: Any) -> Verdict:
    stable = measure_retrieval(served.rows, served.retrieval, slices)
    tuned = measure_retrieval(served.rows, candidate, slices)
    return judge(("old", stable), ("new", tuned), slices, RETRIEVAL_METRICS, Tolerances(**tolerances))


def judge_ranker(served: Served, slices: Any, candidate: RankerArtifacts) -> Verdict:
    stable = measure_ranker(served.rows, served.retrieval, served.ranker, slices)
    tuned = measure_ranker(served.rows, served.retrieval, candidate, slices)
    return judge(("old", stable), ("new", tuned), slices, RANKER_METRICS, Tolerances())


def test_slices_are_those_of_the_shop(served: Served, slices: dict[str, Any]) -> None:
    assert slices[ALL].all()
    known = {f"u{n}" for n in range(USERS)}
    assert slices[NEW_USERS].tolist() == [user not in known for user in served.rows.column("user_id").to_pylist()]
    late = {f"i{n}" for n in range(ITEMS - 8, ITEMS)}
    assert slices[NEW_ITEMS].tolist() == [item in late for item in served.rows.column("item_id").to_pylist()]
    assert (slices["mobile"] | slices["desktop"] | slices["tablet"] | slices["unknown device"]).all()
    assert not slices["tablet"].any()


def test_the_model_that_serves_passes_against_itself(served: Served, slices: dict[str, Any]) -> None:
    assert judge_retrieval(served, slices, served.retrieval).passed
    assert judge_ranker(served, slices, served.ranker).passed


def test_a_query_tower_with_shuffled_weights_is_refused(served: Served, slices: dict[str, Any]) -> None:
    bad = TwoTower(served.towers.config)
    bad.query = harmed(served.towers.query, lambda: type(served.towers.query)(served.towers.config))
    bad.query.candidate_fingerprint = served.retrieval.index.source

    verdict = judge_retrieval(served, slices, served.with_query(bad))

    assert not verdict.passed
    assert (RECALL, ALL) in {(gate.metric, gate.slice) for gate in verdict.failures}
    assert "recall@100 on all" in verdict.reason


def test_a_ranker_with_shuffled_weights_is_refused(served: Served, slices: dict[str, Any]) -> None:
    dlrm = served.ranker.dlrm
    verdict = judge_ranker(served, slices, served.with_dlrm(harmed(dlrm, lambda: Dlrm(dlrm.config))))

    assert not verdict.passed
    assert {NDCG, AUC} <= {gate.metric for gate in verdict.failures if gate.slice == ALL}


def test_a_small_slice_is_not_judged_and_says_so(served: Served, slices: dict[str, Any]) -> None:
    verdict = judge_retrieval(served, slices, served.retrieval, least_rows=int(slices[NEW_ITEMS].sum()) + 1)

    small = next(gate for gate in verdict.gates if gate.slice == NEW_ITEMS)
    assert small.passed is None
    assert "fewer than" in small.note
    assert "not judged: fewer than" in verdict.to_markdown()


def test_a_slice_alone_is_enough_to_refuse() -> None:
    slices = {ALL: np.ones(1000, bool), "tablet": np.arange(1000) < 300}
    before = {ALL: {RECALL: 0.5}, "tablet": {RECALL: 0.6}}
    after = {ALL: {RECALL: 0.52}, "tablet": {RECALL: 0.4}}

    verdict = judge(("old", before), ("new", after), slices, RETRIEVAL_METRICS, Tolerances())

    assert [(gate.slice, gate.metric) for gate in verdict.failures] == [("tablet", RECALL)]
    assert not verdict.passed


values = st.floats(0, 1)


@given(values, values, st.floats(0, 0.3), st.sampled_from([RECALL, NDCG, AUC, CALIBRATION]))
def test_worse_than_the_tolerance_and_nothing_else_fails(
    before: float, after: float, tolerance: float, metric: str
) -> None:
    tolerances = Tolerances(tolerance, tolerance, tolerance, tolerance)
    slices = {ALL: np.ones(10, bool)}

    verdict = judge(("a", {ALL: {metric: before}}), ("b", {ALL: {metric: after}}), slices, [metric], tolerances)

    worse = after - before if metric == CALIBRATION else before - after
    assert verdict.passed == (worse <= tolerance)
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict


def test_a_figure_that_is_no_number_fails() -> None:
    slices = {ALL: np.ones(10, bool)}

    verdict = judge(("a", {ALL: {RECALL: 0.5}}), ("b", {ALL: {RECALL: float("nan")}}), slices, [RECALL], Tolerances())

    assert not verdict.passed


def test_nothing_judged_is_no_pass() -> None:
    slices = {ALL: np.zeros(10, bool)}
    verdict = judge(("a", {ALL: {}}), ("b", {ALL: {}}), slices, [RECALL], Tolerances())

    assert not verdict.passed
    assert verdict.reason == "nothing could be judged"


def test_rows_that_one_version_cannot_know_are_not_judged(served: Served) -> None:
    table = served.ranker.items
    strangers = served.rows.slice(0, 3).set_column(1, "item_id", pa.array(["x", "y", "z"]))

    rows = judged_rows(pa.concat_tables([strangers, served.rows]), [table], 50, seed=1)

    assert len(rows) == 50
    assert (table.positions(rows.column("item_id")) >= 0).all()
    assert rows.equals(judged_rows(pa.concat_tables([strangers, served.rows]), [table], 50, seed=1))
    with pytest.raises(EvaluationError, match="none of the 3"):
        judged_rows(strangers, [table], 50, seed=1)
