"""What logged lists showed, beside the rows of the same days: a sample, without the forgotten and what judges."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from pydantic import SecretStr

from cascade.data.contract import IMPRESSIONS, IMPRESSIONS_CONTRACT, day_folder
from cascade.data.generator import SIZES, Shop, generate
from cascade.features.item_table import ItemTable
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from cascade.online import keys
from cascade.privacy.suppression import digest_of
from cascade.settings import Settings
from orchestration.graph import all_assets
from orchestration.provenance import Provenance
from orchestration.shown import read_shown, write_shown
from orchestration.workspace import Workspace

DAYS = SIZES["tiny"].dates()
NOON = int(dt.datetime(DAYS[2].year, DAYS[2].month, DAYS[2].day, 12, tzinfo=dt.UTC).timestamp())


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return generate(tmp_path_factory.mktemp("shown") / "shop", SIZES["tiny"])


@pytest.fixture
def workspace(shop: Shop, settings: Settings, redis_url: str, tmp_path: Path) -> Workspace:
    root = tmp_path / "shop"
    shop.write_catalog(root)
    for day in DAYS[:3]:
        shop.write_day(root, day)
    own = settings.model_copy(update={"shop": root, "redis_url": SecretStr(redis_url), "training_query": "session"})
    generated = Workspace(own, Provenance(all_assets(own), own))
    data = generated.dataset
    for name, part in {
        "user_transform": UserTransform.fit(data.users(), ["x"]),
        "context_transform": ContextTransform.fit(data.interactions()),
    }.items():
        generated.folder(name).mkdir(parents=True)
        part.save(generated.folder(name))
    return generated


def table_of(workspace: Workspace) -> ItemTable:
    items = workspace.dataset.items()
    nothing = np.zeros((len(items), 64), np.float32)
    transform = ItemTransform.fit(items, items.column("item_id").to_pylist())
    return ItemTable.build(items, transform, nothing, nothing)


def show(workspace: Workspace, lists: int) -> list[str]:
    """Lists of four items, one a minute from noon on, the second clicked; returns who saw them."""
    users = workspace.dataset.users().column("user_id").to_pylist()[:lists]
    items = workspace.dataset.items().column("item_id").to_pylist()
    rows = [
        {
            "request_id": f"r{n}",
            "user_id": user,
            "timestamp": NOON + 60 * n,
            "device_type": "mobile",
            "item_id": items[(n + place) % len(items)],
            "position": place,
            "propensity": 1.0 if place else 0.5,
            "clicked": place == 1,
        }
        for n, user in enumerate(users)
        for place in range(4)
    ]
    folder = workspace.settings.dataset_dir / IMPRESSIONS / day_folder(DAYS[2])
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, IMPRESSIONS_CONTRACT.schema), folder / "part-0.parquet")
    return users


def test_all_that_was_shown_with_its_history(workspace: Workspace, tmp_path: Path) -> None:
    show(workspace, 50)
    items = table_of(workspace)
    assert write_shown(workspace, DAYS[:3], 200, items, tmp_path, seed=1) == 200
    read = read_shown(tmp_path)
    assert read is not None
    assert read.clicked.sum() == 50
    assert (read.position[read.clicked] == 1).all()
    assert (read.propensity[read.position == 0] == 0.5).all()
    assert read.rows.histories is not None
    assert (read.rows.histories.history_end > read.rows.histories.history_start).any()
    assert [path.name for path in tmp_path.iterdir() if path.suffix] == []  # the rows with ids are gone again


def test_a_sample_of_as_much_as_the_setting_says(workspace: Workspace, tmp_path: Path) -> None:
    show(workspace, 50)
    items = table_of(workspace)
    taken = []
    for name in ("one", "again"):
        (tmp_path / name).mkdir()
        assert write_shown(workspace, DAYS[:3], 30, items, tmp_path / name, seed=5) == 30
        read = read_shown(tmp_path / name)
        assert read is not None
        taken.append(read.rows.item_position.tolist())
    assert taken[0] == taken[1]
    none = Workspace(workspace.settings.model_copy(update={"shown_per_click": 0.0}), workspace.provenance)
    (tmp_path / "none").mkdir()
    assert write_shown(none, DAYS[:3], 30, items, tmp_path / "none", seed=5) == 0
    assert read_shown(tmp_path / "none") is None


def test_neither_the_forgotten_nor_what_judges(workspace: Workspace, redis_url: str, tmp_path: Path) -> None:
    users = show(workspace, 10)
    with redis.Redis.from_url(redis_url) as client:
        client.sadd(keys.SUPPRESSED, digest_of(users[0]))
        try:
            assert write_shown(workspace, DAYS[:3], 99, table_of(workspace), tmp_path, until=NOON + 180, seed=1) == 8
        finally:
            client.delete(keys.SUPPRESSED)
    read = read_shown(tmp_path)
    assert read is not None
    assert set(read.rows.timestamp.tolist()) == {NOON + 60, NOON + 120}


def test_days_without_lists(workspace: Workspace, tmp_path: Path) -> None:
    show(workspace, 3)
    assert write_shown(workspace, DAYS[:2], 99, table_of(workspace), tmp_path, seed=1) == 0
    assert read_shown(tmp_path) is None
