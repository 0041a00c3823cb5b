"""The look at drift, in a Dagster instance: a tiny shop's models, what they served, and the same with a shift."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import redis
from numpy.typing import NDArray
from pydantic import SecretStr

from cascade.api.impressions import Impression, ImpressionItem, Served
from cascade.data.contract import IMPRESSIONS, Dataset, day_folder
from cascade.data.generator import SIZES, generate
from cascade.drift.reference import Reference
from cascade.features.history import histories_of_rows
from cascade.features.item_table import ItemTable
from cascade.features.masking import Masking
from cascade.features.point_in_time import training_rows
from cascade.features.spec import RECENT_LENGTH
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from cascade.index import ExactIndex
from cascade.online.drift import read_drift
from cascade.settings import Settings
from cascade.store import ModelStore
from cascade.store.artifacts import RankerArtifacts, RetrievalArtifacts
from cascade.store.model_store import STABLE
from cascade.training.dlrm_training import DlrmTraining, dlrm_config, train_dlrm
from cascade.training.drift import PLACES, plain_lists, ranker_reference, retrieval_reference
from cascade.training.loop import LoopConfig
from cascade.training.query_rows import two_tower_config
from cascade.training.two_tower_training import TwoTowerTraining, train_two_tower
from orchestration.assets.drift import DriftWindow, end_of, feature_drift, read_report
from orchestration.checks import serving_is_like_training
from orchestration.graph import all_assets
from orchestration.provenance import Provenance
from orchestration.workspace import Workspace
from services.features.rows import impression_table

USERS = 600
LEAST = 250
HOURS = 24
"""Of the window: an hour of so small a shop has too few visitors to judge."""


@dataclass(frozen=True)
class TinyShop:
    """Both bundles with their references; each visitor of the last day, and the list that each would be shown."""

    root: Path
    retrieval: RetrievalArtifacts
    ranker: RankerArtifacts
    asked: pa.Table
    recent: NDArray[np.int64]
    positions: NDArray[np.int32]
    chances: NDArray[np.float32]
    day: dt.date


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> TinyShop:
    """Four days train small models of what the build trains: towers and a ranker that read sessions."""
    root = tmp_path_factory.mktemp("drift")
    generate(root / "data", dataclasses.replace(SIZES["tiny"], users=USERS))
    dataset = Dataset(root / "data")
    days = dataset.days()
    training_rows(dataset, days[:4], root / "train.parquet")
    training_rows(dataset, days[4:], root / "evaluation.parquet")
    seen, items = dataset.interactions(days[:4]), dataset.items()
    known = pc.is_in(dataset.users().column("user_id"), pc.unique(seen.column("user_id")))
    user = UserTransform.fit(dataset.users().filter(known), pc.unique(items.column("category_l1")).to_pylist())
    item = ItemTransform.fit(items, pc.unique(seen.column("item_id")).to_pylist())
    where = ContextTransform.fit(seen)
    content = np.zeros((len(items), 64), np.float32)
    table = ItemTable.build(items, item, content, content)
    learned = TrainingSet.build(
        root / "train.parquet", user, where, table,
        histories=histories_of_rows(root / "train.parquet", dataset, table.item_ids), masking=Masking(1, 0.05, 0.05),
    )  # fmt: skip
    loop = LoopConfig(epochs=1, batch=512)
    towers, _ = train_two_tower(
        learned, None, table, two_tower_config("session", user, item, where), TwoTowerTraining(loop=loop), threads=1
    )
    dlrm, _ = train_dlrm(
        learned, None, table, dlrm_config("session", user, item, where), DlrmTraining(loop=loop), threads=1
    )
    vectors = towers.candidate.predict(table.categorical, table.continuous, table.image, table.text)
    index = ExactIndex(vectors)
    index.source = towers.candidate.fingerprint()
    retrieval = RetrievalArtifacts(user, towers.query, index, table.item_ids, "cpu", where, vectors)
    ranker = RankerArtifacts(user, where, table, dlrm, "cpu")
    rows = root / "evaluation.parquet"
    retrieval = dataclasses.replace(retrieval, reference=retrieval_reference(learned, rows, retrieval, dataset, 0))
    reference = ranker_reference(learned, rows, retrieval, ranker, item, dataset, 0)
    ranker = dataclasses.replace(ranker, reference=reference)
    evaluation = pq.read_table(rows)
    start = int(dt.datetime(days[-1].year, days[-1].month, days[-1].day, tzinfo=dt.UTC).timestamp())
    of_day = evaluation.filter(pc.greater_equal(evaluation.column("timestamp"), start))
    # any moment of a visit: at its first nothing of it is known yet, which training rows seldom are
    of_day = of_day.take(pa.array(np.random.default_rng(5).permutation(len(of_day))))
    _, first = np.unique(of_day.column("user_id").to_pylist(), return_index=True)
    asked = of_day.take(pa.array(first))
    positions, chances = plain_lists(asked, retrieval, ranker, dataset)
    before = histories_of_rows(asked, dataset, [])
    recent = np.minimum(before.history_end - before.history_start, RECENT_LENGTH)
    return TinyShop(root / "data", retrieval, ranker, asked, recent, positions, chances, days[-1])


@pytest.fixture
def workspace(shop: TinyShop, settings: Settings, redis_url: str) -> Workspace:
    """A state folder whose model store serves both bundles; its dataset has no impressions yet."""
    store = ModelStore(settings.model_store_url)
    for service, parts in (("retrieval", shop.retrieval), ("ranker", shop.ranker)):
        store.set_alias(service, STABLE, store.write(service, parts.save, training_days=[shop.day]).version)
    folder = settings.state_dir / "dataset"
    folder.mkdir(parents=True)
    for name in ("users.parquet", "items.parquet", "interactions"):
        (folder / name).symlink_to(shop.root / name)
    own = settings.model_copy(
        update={"shop": folder, "redis_url": SecretStr(redis_url), "drift_hours": HOURS, "drift_min_visitors": LEAST}
    )
    return Workspace(own, Provenance(all_assets(own), own))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


Shift = Callable[[int, dict[str, Any]], dict[str, Any]]


def show(shop: TinyShop, workspace: Workspace, shift: Shift = lambda _, row: row, lists: int | None = None) -> str:
    """Log the lists of the day as the features worker writes them; returns the window's end.

    shift: changes what the n-th visitor's device and features are; the lists stay those of the visitors as they were
    """
    rows = shop.asked.slice(0, lists)
    versions = {service: str(workspace.store.alias(service, STABLE)) for service in ("retrieval", "ranker")}
    logged = []
    for number, (row, places, scores, length) in enumerate(
        zip(rows.to_pylist(), shop.positions, shop.chances, shop.recent, strict=False)
    ):
        told = shift(number, {**row, "recent": int(length)})
        items = [
            ImpressionItem(item_id=item, position=place, score=float(score), propensity=1.0)
            for place, (item, score) in enumerate(zip(shop.ranker.items.ids(places), scores, strict=True))
        ]
        logged.append(
            Impression(
                request_id=f"r{number}",
                user_id=told["user_id"],
                timestamp=row["timestamp"],
                device_type=told["device_type"],
                items=items,
                versions=versions,
                tracks=dict.fromkeys(versions, "stable"),
                served=Served(**{name: told[name] for name in Served.model_fields}),
            )
        )
    folder = workspace.settings.dataset_dir / IMPRESSIONS / day_folder(shop.day)
    folder.mkdir(parents=True)
    pq.write_table(
        impression_table([(str(number), one) for number, one in enumerate(logged)], {}), folder / "live-1.parquet"
    )
    return f"{shop.day + dt.timedelta(days=1)}T00:00"


def materialise(workspace: Workspace, instance: dg.DagsterInstance, end: str) -> dg.AssetCheckEvaluation:
    """Run asset and check, as the job does; returns what the check found."""
    result = dg.materialize(
        [feature_drift, dg.AssetSpec("retrieval_bundle"), dg.AssetSpec("ranker_bundle"), serving_is_like_training],
        instance=instance,
        resources={"workspace": workspace},
        run_config=dg.RunConfig(ops={"feature_drift": DriftWindow(end=end)}),
        selection=dg.AssetSelection.assets(feature_drift),
    )
    assert result.success
    (check,) = result.get_asset_check_evaluations()
    return check


def drifted(workspace: Workspace) -> set[tuple[str, str]]:
    return {(one.model, one.feature) for one in read_report(workspace).of("drifted")}


def test_a_window_like_training_has_no_drift(
    shop: TinyShop, workspace: Workspace, instance: dg.DagsterInstance, redis_url: str
) -> None:
    check = materialise(workspace, instance, show(shop, workspace))

    report = read_report(workspace)
    assert drifted(workspace) == set(), report.summary
    assert report.of("too few") == [], report.summary
    assert check.passed
    features = {one.feature for one in report.drifts if one.model == "ranker"}
    assert features == {
        "user_id", "gender", "age_bucket", "top_category", "age", "device_type", "history_length",
        "item_id", "category_l1", "category_l2", "item_gender", "price", "score",
    }  # fmt: skip
    assert features - {"item_id", "category_l1", "category_l2", "item_gender", "price"} == {
        one.feature for one in report.drifts if one.model == "retrieval"
    }
    with redis.Redis.from_url(redis_url) as client:
        assert read_drift(client) == report


def test_a_shifted_feature_is_named_and_no_other(
    shop: TinyShop, workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    end = show(shop, workspace, lambda _, row: {**row, "device_type": "tablet"})

    check = materialise(workspace, instance, end)

    assert drifted(workspace) - {("retrieval", "score")} == {("retrieval", "device_type"), ("ranker", "device_type")}
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert "ranker device_type" in str(check.description)
    assert {"psi", "histograms"} <= set(check.metadata)
    event = instance.get_latest_materialization_event(dg.AssetKey("feature_drift"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert "data:image/png;base64," in str(metadata["psi"].value)
    assert "| ranker | device_type |" in str(metadata["features"].value)


def test_features_that_are_lost_on_their_way_are_named(
    shop: TinyShop, workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    """The online store answers without top categories, as it does where nobody writes them any more."""
    end = show(shop, workspace, lambda _, row: {**row, "top_category": None})

    materialise(workspace, instance, end)

    assert drifted(workspace) - {("retrieval", "score")} == {("retrieval", "top_category"), ("ranker", "top_category")}


def test_too_few_lists_are_said_to_be_too_few(
    shop: TinyShop, workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    end = show(shop, workspace, lambda _, row: {**row, "device_type": "tablet"}, lists=100)

    check = materialise(workspace, instance, end)

    assert drifted(workspace) == set()
    assert not check.passed, "what was not looked at has not passed"
    assert "too few visitors to judge 21 of 21 features (250 needed)" in str(check.description)


def test_an_hour_without_lists_and_bundles_without_a_reference_are_told(
    shop: TinyShop, workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    bare = dataclasses.replace(shop.ranker, reference=None)
    version = workspace.store.write("ranker", bare.save, training_days=[shop.day]).version
    workspace.store.set_alias("ranker", STABLE, version)

    check = materialise(workspace, instance, f"{shop.day}T05:00")

    assert not check.passed
    assert f"ranker {version} has no reference" in str(check.description)
    assert "retrieval device_type (0)" in str(check.description)


def test_lists_of_another_version_are_not_held_against_this_one(
    shop: TinyShop, workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    end = show(shop, workspace)
    other = dataclasses.replace(shop.ranker, user_transform=shop.ranker.user_transform)
    version = workspace.store.write("ranker", other.save, training_days=[shop.day, shop.day]).version
    workspace.store.set_alias("ranker", STABLE, version)

    materialise(workspace, instance, end)

    visitors = read_report(workspace).visitors
    assert visitors["retrieval"] > LEAST
    assert visitors["ranker"] == 0


def test_references_are_read_from_the_bundles(shop: TinyShop, workspace: Workspace) -> None:
    for service, parts in (("retrieval", RetrievalArtifacts), ("ranker", RankerArtifacts)):
        path = workspace.store.bundle(service, STABLE).path
        loaded = parts.load(path).reference
        assert isinstance(loaded, Reference)
        assert loaded.features["score"].counts.sum() > PLACES * 100


def test_windows_end_with_the_hour() -> None:
    now = dt.datetime(2026, 1, 12, 9, 10, 5, tzinfo=dt.UTC)

    assert end_of("", now) == end_of("2026-01-12T09:59") == dt.datetime(2026, 1, 12, 9, tzinfo=dt.UTC)
    assert end_of("2026-01-12T10:30+01:00") == dt.datetime(2026, 1, 12, 9, tzinfo=dt.UTC)
    with pytest.raises(dg.Failure, match="'soon' is no moment"):
        end_of("soon")
