"""The whole evaluation on a tiny generated shop, with small models trained for it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from cascade.data.contract import Dataset
from cascade.data.generator import SIZES, Shop, generate
from cascade.features.item_table import ItemTable
from cascade.features.point_in_time import training_rows
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from cascade.index import CandidateIndex, ExactIndex
from cascade.models import Dlrm, DlrmConfig, QueryTower, TwoTowerConfig
from cascade.training.dlrm_training import DlrmTraining, train_dlrm
from cascade.training.errors import EvaluationError
from cascade.training.evaluation import ALL, CASCADE, COLD, ITEM_KNN, ORACLE, POPULARITY, TWO_TOWER, evaluate
from cascade.training.loop import LoopConfig
from cascade.training.report import EvaluationReport
from cascade.training.two_tower_training import TwoTowerTraining, train_two_tower


@dataclass(frozen=True)
class Retrieval:
    user_transform: UserTransform
    query_tower: QueryTower
    index: CandidateIndex
    item_ids: list[str]


@dataclass(frozen=True)
class Ranker:
    user_transform: UserTransform
    context_transform: ContextTransform
    items: ItemTable
    dlrm: Dlrm


@dataclass(frozen=True)
class Built:
    dataset: Dataset
    shop: Shop
    retrieval: Retrieval
    ranker: Ranker


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    root = tmp_path_factory.mktemp("shop")
    shop = generate(root / "data", SIZES["tiny"])
    dataset = Dataset(root / "data")
    days = dataset.days()[:4]
    training_rows(dataset, days, root / "rows.parquet")
    interactions, items = dataset.interactions(days), dataset.items()
    users = dataset.users()
    users = users.filter(pc.is_in(users.column("user_id"), pc.unique(interactions.column("user_id"))))
    user = UserTransform.fit(users, pc.unique(items.column("category_l1")).to_pylist())
    item = ItemTransform.fit(items, pc.unique(interactions.column("item_id")).to_pylist())
    context = ContextTransform.fit(interactions)
    # content: which category an item is of
    l1 = np.unique(items.column("category_l1").to_pylist(), return_inverse=True)[1]
    content = np.eye(64, dtype=np.float32)[l1 % 64]
    table = ItemTable.build(items, item, content, content)
    rows = TrainingSet.build(root / "rows.parquet", user, context, table)
    towers, _ = train_two_tower(
        rows,
        None,
        table,
        TwoTowerConfig(user.cardinalities, 1, item.cardinalities, 1),
        TwoTowerTraining(loop=LoopConfig(epochs=4, batch=256)),
        threads=1,
    )
    dlrm, _ = train_dlrm(
        rows,
        None,
        table,
        DlrmConfig(user.cardinalities, item.cardinalities, context.cardinalities, 1, 1, 4),
        DlrmTraining(loop=LoopConfig(epochs=2, batch=256)),
        threads=1,
    )
    # The index holds the catalog backwards: evaluation must not confuse the two orders.
    vectors = towers.candidate.predict(table.categorical, table.continuous, table.image, table.text)[::-1]
    index = ExactIndex(vectors)
    index.source = towers.candidate.fingerprint()
    return Built(
        dataset,
        shop,
        Retrieval(user, towers.query, index, table.item_ids[::-1]),
        Ranker(user, context, table, dlrm),
    )


def run(built: Built, **options) -> EvaluationReport:
    days = built.dataset.days()
    settings = {"oracle": built.shop, "max_rows": 300, "candidates": 40, **options}
    return evaluate(built.dataset, built.retrieval, built.ranker, days[:4], days[4:5], **settings)


@pytest.fixture(scope="module")
def report(built: Built) -> EvaluationReport:
    return run(built)


def test_every_model_is_measured_on_every_slice(report: EvaluationReport) -> None:
    models = {row.model for row in report.rows}
    slices = {row.slice for row in report.rows}
    assert models == {POPULARITY, ITEM_KNN, TWO_TOWER, CASCADE, ORACLE}
    assert {ALL, COLD, "mobile", "desktop"} <= slices
    assert len(report.rows) == len(models) * len(slices)
    for row in report.rows:
        for name, value in row.metrics.items():
            assert np.isfinite(value), (row.model, row.slice, name)
    assert ("log_loss" in {n for r in report.rows if r.model == CASCADE for n in r.metrics}) is True
    devices = [r.rows for r in report.rows if r.model == ORACLE and r.slice not in (ALL, COLD)]
    assert sum(devices) == next(r.rows for r in report.rows if r.slice == ALL) == 300


def test_the_oracle_leads_and_models_are_given_as_its_share(report: EvaluationReport) -> None:
    best = report.metric(ORACLE, "ndcg@10")
    for model in (POPULARITY, ITEM_KNN, TWO_TOWER, CASCADE):
        assert report.metric(model, "ndcg@10") < best
        assert report.metric(model, "oracle_share") == pytest.approx(report.metric(model, "ndcg@10") / best)
    assert report.metric(ORACLE, "oracle_share") == 1
    assert report.metric(TWO_TOWER, "recall@10") > 10 / 120


def test_reordering_keeps_the_candidates(report: EvaluationReport) -> None:
    # 40 candidates, whoever orders them
    assert report.metric(CASCADE, "recall@100") == report.metric(TWO_TOWER, "recall@100")
    assert report.metric(CASCADE, "recall@100") < 1


def test_popularity_knows_no_users_so_cold_ones_lose_nothing(report: EvaluationReport) -> None:
    assert report.metric(POPULARITY, "recall@10", COLD) == report.metric(POPULARITY, "recall@10")
    assert report.metric(ITEM_KNN, "recall@10", COLD) == report.metric(POPULARITY, "recall@10")
    assert report.metric(ORACLE, "ndcg@10", COLD) < report.metric(ORACLE, "ndcg@10")


def test_the_same_seed_gives_the_same_report(built: Built, report: EvaluationReport) -> None:
    assert run(built).to_dict() == report.to_dict()
    assert run(built, seed=1).to_dict() != report.to_dict()


def test_the_index_order_does_not_matter(built: Built, report: EvaluationReport) -> None:
    table = built.ranker.items
    forwards = np.stack([built.retrieval.index.reconstruct(n) for n in range(len(table))])[::-1]
    other = replace(built, retrieval=replace(built.retrieval, index=ExactIndex(forwards), item_ids=table.item_ids))
    assert run(other).metric(TWO_TOWER, "recall@10") == report.metric(TWO_TOWER, "recall@10")


def test_seen_items_can_be_left_out(built: Built, report: EvaluationReport) -> None:
    without = run(built, exclude_seen=True)
    assert without.settings["seen_items"] == "excluded"
    assert report.settings["seen_items"] == "included"
    assert without.settings["rows"] + without.settings["dropped_rows"] >= 300
    # Of as many candidates, fewer are spent on what the user has had.
    assert without.metric(ITEM_KNN, "recall@10") > 0


def test_without_an_oracle_there_are_no_shares(built: Built) -> None:
    plain = run(built, oracle=None)
    assert ORACLE not in {row.model for row in plain.rows}
    assert not any("oracle_share" in row.metrics for row in plain.rows)


def test_the_report_is_json_and_markdown(report: EvaluationReport) -> None:
    assert json.loads(json.dumps(report.to_dict()))["settings"]["rows"] == 300
    lines = report.to_markdown().splitlines()
    assert lines[0].startswith("| slice | model | rows | recall@10 |")
    assert len({line.count("|") for line in lines[: 2 + len(report.rows)]}) == 1
    assert "seen_items: included" in lines[-1]
    with pytest.raises(KeyError, match="'nothing'"):
        report.metric("nothing", "mrr")


def test_days_without_interactions_are_refused(built: Built) -> None:
    days = built.dataset.days()
    table = built.ranker.items
    foreign = ItemTable(
        [f"other-{n}" for n in range(len(table))], table.categorical, table.continuous, table.image, table.text
    )
    with pytest.raises(EvaluationError, match="none with an item of the ranker's table"):
        evaluate(built.dataset, built.retrieval, replace(built.ranker, items=foreign), days[:4], days[4:5])


def test_rows_that_were_written_before_are_judged_the_same(
    built: Built, report: EvaluationReport, tmp_path: Path
) -> None:
    day = built.dataset.days()[4]
    training_rows(built.dataset, [day], tmp_path / "rows.parquet")
    assert run(built, rows_file=tmp_path / "rows.parquet").to_dict() == report.to_dict()
