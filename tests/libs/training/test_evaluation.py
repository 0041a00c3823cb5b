"""The whole evaluation on a tiny generated shop, with small models trained for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cascade.features.item_table import ItemTable
from cascade.features.point_in_time import training_rows
from cascade.index import ExactIndex
from cascade.training.ablation import GROUPS
from cascade.training.contestants import ALL_BASELINES
from cascade.training.errors import EvaluationError
from cascade.training.evaluation import ALL, CASCADE, COLD, ITEM_KNN, ORACLE, POPULARITY, TWO_TOWER, Scope, evaluate
from cascade.training.report import LIST_METRICS, METRICS, EvaluationReport
from cascade.training.slices import FOUND, KNOWN_ITEMS


def run(built, **options) -> EvaluationReport:
    days = built.dataset.days()
    of_scope = {"max_rows": 300, "candidates": 40, "baselines": ALL_BASELINES, "replicates": 50}
    of_scope |= {name: options.pop(name) for name in list(options) if name in Scope.__dataclass_fields__}
    settings = {"oracle": built.shop, "scope": Scope(**of_scope), **options}
    return evaluate(built.dataset, built.retrieval, built.ranker, days[:4], days[4:5], **settings)


@pytest.fixture(scope="module")
def report(built) -> EvaluationReport:
    return run(built, new_user_events=(0, 1, 3, 10), ablations=60, tower=built.tower)


def test_every_model_is_measured_on_every_slice(report: EvaluationReport) -> None:
    models = {row.model for row in report.rows}
    slices = {row.slice for row in report.rows}
    assert models == {*ALL_BASELINES, TWO_TOWER, CASCADE, ORACLE}
    new = {COLD, "new users, 1 event", "new users, 3 events", "new users, 10 events"}
    assert {ALL, FOUND, KNOWN_ITEMS, "mobile", "desktop", "10 to 29 events", *new} <= slices
    assert any(name.startswith("category ") for name in slices)
    assert len(report.rows) == len(models) * len(slices)
    for row in report.rows:
        for name, value in row.metrics.items():
            assert np.isfinite(value), (row.model, row.slice, name)
            assert name in METRICS + LIST_METRICS
    assert ("log_loss" in {n for r in report.rows if r.model == CASCADE for n in r.metrics}) is True
    for kind in (("mobile", "desktop", "tablet", "unknown device"), ("events",), ("items",)):
        parts = [
            r.rows
            for r in report.rows
            if r.model == ORACLE and r.slice not in new and any(r.slice.endswith(k) for k in (*kind, "and more"))
        ]
        parts = [n for n in parts if n]
        assert sum(parts) >= 300
    assert report.row(ORACLE).rows == 300


def test_intervals_hold_what_was_measured(report: EvaluationReport) -> None:
    row = report.row(CASCADE)
    for name in ("recall@10", "ndcg@10", "mrr", "hit_rate@10", "auc", "log_loss", "calibration_error", "novelty@10"):
        low, high = row.intervals[name]
        assert low <= high
        if name != "calibration_error":  # which is above its own expectation in any resample
            assert low <= row.metrics[name] <= high
    assert "coverage@10" not in row.intervals
    assert not run_rows_without_intervals(report)


def run_rows_without_intervals(report: EvaluationReport) -> list[str]:
    return [row.slice for row in report.rows if row.rows >= 100 and not row.intervals]


def test_the_stages_are_compared_with_the_best_baseline(report: EvaluationReport) -> None:
    leads = {(one.slice, one.metric, one.model): one for one in report.comparisons}
    for metric in ("recall@10", "ndcg@10"):
        one = leads[ALL, metric, CASCADE]
        best = max(ALL_BASELINES, key=lambda name: report.metric(name, metric))
        assert report.metric(one.baseline, metric) == report.metric(best, metric) == one.of_baseline
        assert one.lead == pytest.approx(report.metric(CASCADE, metric) - one.of_baseline)
        low, high = one.interval
        assert low <= one.lead <= high
        assert one.verdict == ("level" if low <= 0 <= high else "ahead" if one.lead > 0 else "behind")


def test_the_ranker_alone_is_judged_where_retrieval_found_the_item(report: EvaluationReport) -> None:
    for model in (TWO_TOWER, CASCADE):
        assert report.metric(model, "recall@100", FOUND) == 1
    share = report.row(TWO_TOWER, FOUND).rows / 300
    assert share == pytest.approx(report.metric(TWO_TOWER, "recall@100"))
    assert 0 < report.metric(TWO_TOWER, "oracle_top10") < 1
    assert report.metric(ORACLE, "oracle_top10") == 1


def test_curves_hold_the_numbers_of_the_table(report: EvaluationReport) -> None:
    curves = report.curves
    for one in curves.recall:
        assert list(one.k) == [1, 5, 10, 20]  # lists of 40
        assert one.recall[2] == pytest.approx(report.metric(one.model, "recall@10"))
        assert list(one.recall) == sorted(one.recall)
    assert {one.model for one in curves.recall} == {row.model for row in report.rows}

    (reliability,) = curves.reliability
    predicted, observed, count = (
        np.array(of) for of in (reliability.predicted, reliability.observed, reliability.count)
    )
    assert reliability.model == CASCADE
    assert (count.sum(), list(predicted)) == (300 * 6, sorted(predicted))
    error = (np.abs(predicted - observed) * count).sum() / count.sum()
    assert error == pytest.approx(report.metric(CASCADE, "calibration_error"), abs=1e-6)
    assert (observed * count).sum() == pytest.approx(300)

    exposure = curves.exposure
    for shares in (exposure.interactions, *exposure.models.values()):
        assert (len(shares), list(shares)) == (len(exposure.items), sorted(shares))
        assert shares[-1] == pytest.approx(1)
    assert (exposure.items[0], exposure.items[-1]) == (1, report.settings["items"])
    ten = exposure.items.index(10) if 10 in exposure.items else next(n for n, i in enumerate(exposure.items) if i >= 10)
    assert exposure.models[POPULARITY][ten] == pytest.approx(1)  # always the ten most met
    assert exposure.models[CASCADE][ten] < 1


def test_each_group_of_features_is_hidden_in_turn(report: EvaluationReport, built) -> None:
    losses = {(one.group, one.model, one.metric): one.loss for one in report.ablations}
    # A tower of mode static reads no session.
    assert {group for group, _, _ in losses} == {group.name for group in GROUPS if not group.history}
    # Retrieval does not read the context, and without the candidate tower nothing of the items.
    assert losses["device", TWO_TOWER, "ndcg@10"] == 0
    assert losses["image and text", TWO_TOWER, "ndcg@10"] != 0
    assert losses["user id", CASCADE, "ndcg@10"] != 0
    alone = run(built, ablations=60, new_user_events=(), baselines=())
    of_items = {one.loss for one in alone.ablations if one.model == TWO_TOWER and "item" in one.group}
    assert of_items == {0.0}
    assert not alone.comparisons


def test_the_oracle_leads_and_models_are_given_as_its_share(report: EvaluationReport) -> None:
    best = report.metric(ORACLE, "ndcg@10")
    for model in (*ALL_BASELINES, TWO_TOWER, CASCADE):
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


def test_a_few_events_let_those_who_read_history_catch_up(report: EvaluationReport) -> None:
    for model in (ITEM_KNN, ORACLE):
        cold, ten = (report.metric(model, "ndcg@10", name) for name in (COLD, "new users, 10 events"))
        assert ten > cold
    assert report.metric(POPULARITY, "ndcg@10", "new users, 10 events") == report.metric(POPULARITY, "ndcg@10")


def test_the_same_seed_gives_the_same_report(built, report: EvaluationReport) -> None:
    again = run(built, new_user_events=(0, 1, 3, 10), ablations=60, tower=built.tower)
    assert again.to_dict() == report.to_dict()
    assert run(built, seed=1, baselines=()).metric(CASCADE, "auc") != report.metric(CASCADE, "auc")


def test_the_index_order_does_not_matter(built, report: EvaluationReport) -> None:
    table = built.ranker.items
    forwards = np.stack([built.retrieval.index.reconstruct(n) for n in range(len(table))])[::-1]
    other = replace(built, retrieval=replace(built.retrieval, index=ExactIndex(forwards), item_ids=table.item_ids))
    assert run(other, baselines=()).metric(TWO_TOWER, "recall@10") == report.metric(TWO_TOWER, "recall@10")


def test_seen_items_can_be_left_out(built, report: EvaluationReport) -> None:
    without = run(built, exclude_seen=True, baselines=(ITEM_KNN,))
    assert without.settings["seen_items"] == "excluded"
    assert report.settings["seen_items"] == "included"
    assert without.settings["rows"] + without.settings["dropped_rows"] >= 300
    # Of as many candidates, fewer are spent on what the user has had.
    assert without.metric(ITEM_KNN, "recall@10") > 0


def test_without_an_oracle_there_are_no_shares(built) -> None:
    plain = run(built, oracle=None, baselines=(POPULARITY,))
    assert ORACLE not in {row.model for row in plain.rows}
    assert not any("oracle_share" in row.metrics for row in plain.rows)


def test_the_report_is_json_and_markdown(report: EvaluationReport) -> None:
    assert json.loads(json.dumps(report.to_dict()))["settings"]["rows"] == 300
    lines = report.to_markdown().splitlines()
    assert lines[0].startswith("| slice | model | rows | recall@10 |")
    assert len({line.count("|") for line in lines[: 2 + len(report.rows)]}) == 1
    for head in ("| model | hit_rate@10", "| slice | metric | model | best baseline", "| hidden | model"):
        assert any(line.startswith(head) for line in lines)
    assert "seen_items: included" in lines[-1]
    with pytest.raises(KeyError, match="'nothing'"):
        report.metric("nothing", "mrr")


def test_days_without_interactions_are_refused(built) -> None:
    days = built.dataset.days()
    table = built.ranker.items
    foreign = ItemTable(
        [f"other-{n}" for n in range(len(table))], table.categorical, table.continuous, table.image, table.text
    )
    with pytest.raises(EvaluationError, match="none with an item of the ranker's table"):
        evaluate(built.dataset, built.retrieval, replace(built.ranker, items=foreign), days[:4], days[4:5])


def test_rows_that_were_written_before_are_judged_the_same(built, report: EvaluationReport, tmp_path: Path) -> None:
    day = built.dataset.days()[4]
    training_rows(built.dataset, [day], tmp_path / "rows.parquet")
    training_rows(built.dataset, built.dataset.days()[:4], tmp_path / "train.parquet")
    files = {"rows_file": tmp_path / "rows.parquet", "train_file": tmp_path / "train.parquet"}
    assert run(built, **files, baselines=(POPULARITY,)).to_dict() == run(built, baselines=(POPULARITY,)).to_dict()
    assert report.metric(CASCADE, "ndcg@10") == run(built, **files, baselines=()).metric(CASCADE, "ndcg@10")
