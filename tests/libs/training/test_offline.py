"""Training and evaluating on a folder from nothing: splits, what a folder may lack, and the search."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cascade.cli import app
from cascade.data.contract import Dataset, day_folder
from cascade.data.generator import SIZES, generate
from cascade.training.errors import EvaluationError
from cascade.training.loop import LoopConfig
from cascade.training.offline import CachedDataset, Content, _enough, prepare
from cascade.training.parameters import Parameters
from cascade.training.tuning import tune

QUICK = {"two_tower": {"loop": {"epochs": 1, "batch": 256}}, "dlrm": {"loop": {"epochs": 1, "batch": 256}}}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny shop's interactions alone, without devices and event types, users and items."""
    root = tmp_path_factory.mktemp("bare")
    generate(root / "shop", SIZES["tiny"])
    for path in Dataset(root / "shop").interaction_files():
        to = root / "bare" / path.relative_to(root / "shop")
        to.parent.mkdir(parents=True)
        pq.write_table(pq.ParquetFile(path).read(columns=["user_id", "item_id", "timestamp"]), to)
    return root / "bare"


def prepared(folder: Path, to: Path, **options):
    dataset = CachedDataset(folder)
    nothing = np.zeros((dataset.items().num_rows, 64), np.float32)
    return prepare(dataset, to, lambda: Content(nothing, nothing, False, False), **options)


def moments(path: Path) -> np.ndarray:
    return pq.read_table(path).column("timestamp").to_numpy()


def test_by_time_every_evaluation_row_is_later_than_every_training_row(bare: Path, tmp_path: Path) -> None:
    found = prepared(bare, tmp_path)
    train, later = moments(found.train_file), moments(found.rows_file)
    assert train.max() < later.min()
    assert 0.05 <= len(later) / (len(train) + len(later)) <= 0.2
    assert max(found.train_days) <= min(found.eval_days)
    # Some of the latest training rows judge epochs, and are not learned.
    assert len(found.learned) + len(found.judged) == len(train)
    assert found.judged.timestamp.min() >= np.quantile(train, 0.94)
    assert (found.items.image == 0).all()


def test_leave_last_out_takes_each_users_last_row(bare: Path, tmp_path: Path) -> None:
    found = prepared(bare, tmp_path, split="leave-last-out")
    every = pa.concat_tables([pq.read_table(found.train_file), pq.read_table(found.rows_file)])
    later = pq.read_table(found.rows_file)
    assert len(pc.unique(later.column("user_id"))) == len(later)
    newest = dict(zip(*every.group_by("user_id").aggregate([("timestamp", "max")]).to_pydict().values(), strict=True))
    for user, moment in zip(later.column("user_id").to_pylist(), later.column("timestamp").to_pylist(), strict=True):
        assert newest[user] == moment
    rows_of = dict(
        zip(*every.group_by("user_id").aggregate([("timestamp", "count")]).to_pydict().values(), strict=True)
    )
    assert {user for user, rows in rows_of.items() if rows > 1} == set(later.column("user_id").to_pylist())


def test_one_moment_cannot_be_split(tmp_path: Path) -> None:
    day = tmp_path / "shop" / "interactions" / "date=2026-01-05"
    day.mkdir(parents=True)
    met = {"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": [1767571200] * 2}
    pq.write_table(pa.table(met), day / "p.parquet")
    with pytest.raises(EvaluationError, match="they all have the same moment"):
        prepared(tmp_path / "shop", tmp_path / "work")
    with pytest.raises(EvaluationError, match="each user has one"):
        prepared(tmp_path / "shop", tmp_path / "work", split="leave-last-out")


def test_a_cached_folder_reads_as_the_folder(bare: Path) -> None:
    plain, cached = Dataset(bare), CachedDataset(bare)
    assert cached.days() == plain.days() == cached.days()
    assert cached.users().equals(plain.users())
    assert cached.items().equals(plain.items())
    cached.days().clear()
    assert cached.days() == plain.days()


@pytest.mark.parametrize("split", ["time", "leave-last-out"])
def test_ids_and_timestamps_are_enough(bare: Path, tmp_path: Path, monkeypatch, split: str) -> None:
    monkeypatch.setenv("CASCADE_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "quick.json").write_text(json.dumps(QUICK))
    arguments = ["--dataset", bare, "--parameters", tmp_path / "quick.json", "--rows", 200, "--draws", 20]
    arguments += ["--ablations", 30, "--split", split]
    out, html = tmp_path / "report.json", tmp_path / "report.html"
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--out", str(out), "--html", str(html)])
    assert result.exit_code == 0, result.output
    content = json.loads(out.read_text())
    page = html.read_text()
    for told in (
        "What needs age, gender: users.parquet has none.",
        "What needs device_type, event_type: interactions has none.",
        "Pictures on the map: the items have none.",
        "Colours of the map: the items have no category.",
        "Titles on the map: the catalog has none. Item ids stand for them.",
        "The oracle: ",
        "models trained here for this folder",
    ):
        assert told in page
    assert "data:image" not in page
    assert content["absent"]["interactions"] == ["device_type", "event_type"]
    assert content["absent"]["users.parquet"] == ["age", "gender"]
    assert content["content"] == {"images": False, "texts": False}
    assert content["settings"]["seen_items"] == "excluded"
    assert content["split"] == split
    assert content["parameters"]["dlrm"]["loop"]["epochs"] == 1
    models = {row["model"] for row in content["rows"]}
    assert {"EASE", "ALS", "BPR", "item-kNN", "popularity", "recent popularity", "two-tower + DLRM"} <= models
    hidden = {one["group"] for one in content["ablations"]}
    assert {"item id", "session"} <= hidden
    assert content["query"] == "session"
    assert not {"image", "text", "device", "item categories"} & hidden
    assert "diversity@10" not in content["rows"][0]["metrics"]
    assert "without" in result.output
    assert "Lead over the best baseline" in result.output


def test_json_goes_to_standard_output_alone(bare: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CASCADE_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "quick.json").write_text(json.dumps(QUICK))
    arguments = ["--dataset", bare, "--parameters", tmp_path / "quick.json", "--rows", 100, "--draws", 0]
    arguments += ["--ablations", 0, "--baselines", "light", "--json", "--include-seen"]
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    # The test suite's logging writes to standard output, too: a line each, and never the first of an indented object.
    content = json.loads(result.stdout[result.stdout.index("{\n") :])
    assert content["settings"]["seen_items"] == "included"
    assert not content["ablations"]
    assert not any(row["intervals"] for row in content["rows"])


def test_parameters_without_a_dataset_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CASCADE_STATE_DIR", str(tmp_path / "state"))
    result = CliRunner().invoke(app, ["evaluate", "--parameters", "p.json"])
    assert result.exit_code == 1
    assert "give --dataset too" in result.output


def test_the_search_begins_with_the_defaults_and_looks_at_no_evaluation_row(
    bare: Path, tmp_path: Path, monkeypatch
) -> None:
    found = prepared(bare, tmp_path / "work")
    monkeypatch.setattr("cascade.training.offline.TWO_TOWER_ROWS", 2000)
    monkeypatch.setattr("cascade.training.offline.DLRM_ROWS", 2000)
    tuned = tune(found, tmp_path / "tuning", minutes=1e-9, exclude_seen=True)
    assert [(trial.model, trial.changes) for trial in tuned.trials] == [("two_tower", {}), ("dlrm", {})]
    assert tuned.parameters == {"two_tower": {}, "dlrm": {}}
    judged = moments(tmp_path / "tuning" / "evaluate.parquet")
    assert judged.max() < moments(found.rows_file).min()
    assert judged.min() > moments(tmp_path / "tuning" / "train.parquet").max()

    more = tune(found, tmp_path / "tuning", minutes=60, exclude_seen=True, trials=2)
    assert [trial.model for trial in more.trials] == ["two_tower"] * 2 + ["dlrm"] * 2
    best = max(trial.ndcg_at_10 for trial in more.trials if trial.model == "dlrm")
    assert best >= more.trials[2].ndcg_at_10
    assert Parameters.from_dict(more.parameters)


def test_small_data_gets_more_passes_and_large_data_ends() -> None:
    loop = LoopConfig(epochs=5, patience=1)
    small = _enough(loop, 50_000, 1_000_000, 2_000_000)
    assert (small.epochs, small.patience) == (20, 2)
    assert _enough(loop, 1_000, 1_000_000, 2_000_000).epochs == 30
    large = _enough(loop, 1_000_000, 1_000_000, 2_000_000)
    assert (large.epochs, large.patience, large.rows_at_most) == (5, 1, 2_000_000)
    assert large.steps(1_000_000)[1] * large.batch <= 2_010_000
    assert _enough(replace(loop, rows_at_most=10_000), 1_000_000, 1_000_000, 2_000_000).rows_at_most == 10_000


def test_logged_lists_are_valued_where_one_asks_for_it(bare: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CASCADE_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "quick.json").write_text(json.dumps(QUICK))
    root = tmp_path / "shop"
    shutil.copytree(bare, root)
    shown = Dataset(root).interactions(Dataset(root).days()[-1:]).slice(0, 100)
    table = pa.table(
        {
            "request_id": [f"r{n}" for n in range(100)],
            **{name: shown.column(name) for name in ("user_id", "timestamp", "device_type", "item_id")},
            "position": pa.array([0] * 100, pa.int32()),
            "propensity": [0.02] * 100,
            "clicked": [n % 4 == 0 for n in range(100)],
        }
    )
    day = root / "impressions" / day_folder(Dataset(root).days()[-1])
    day.mkdir(parents=True)
    pq.write_table(table, day / "part-0.parquet")
    arguments = ["--dataset", root, "--parameters", tmp_path / "quick.json", "--rows", 100, "--draws", 0]
    arguments += ["--ablations", 0, "--baselines", "light", "--off-policy", "--out", tmp_path / "report.json"]
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "report.json").read_text())["off_policy"]
    assert {(one["estimator"], one["assumption"]) for one in found} == {
        (estimator, assumption) for estimator in ("IPS", "SNIPS", "DR") for assumption in ("cascade", "independent")
    }
    assert all(np.isfinite(one["value"]) and one["lists"] == 100 for one in found)
    assert "Clicks a list, from logged impressions" in result.output
