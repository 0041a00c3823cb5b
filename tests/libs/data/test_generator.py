from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.data.contract import Dataset
from cascade.data.errors import ShopConfigInvalid, TruthUnavailable, UnknownDay
from cascade.data.generator import SIZES, Shop, ShopConfig, generate
from cascade.data.generator.contexts import CONTEXTS, context_rows, context_utilities, device_codes
from cascade.data.generator.people import build_people
from cascade.data.generator.taxonomy import COLOURS, LOOKS, MATERIALS, TAXONOMY, taxonomy_for
from cascade.data.generator.visits import draw_visits
from cascade.data.validation import validate


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_equal_configurations_give_equal_bytes(tiny_root: Path, tiny_config: ShopConfig, tmp_path: Path) -> None:
    generate(tmp_path / "again", tiny_config)
    assert digests(tmp_path / "again") == digests(tiny_root)


def test_another_seed_is_another_shop(tiny_root: Path, tiny_config: ShopConfig) -> None:
    other = Shop.create(replace(tiny_config, seed=2))
    ids = Dataset(tiny_root).items().column("item_id").to_pylist()
    assert not set(other.catalog.item_ids) & set(ids)


def test_days_can_be_written_in_any_order(tiny_root: Path, tiny_config: ShopConfig, tmp_path: Path) -> None:
    shop = Shop.create(tiny_config)
    for day in reversed(tiny_config.dates()):
        shop.write_day(tmp_path, day)
    written = digests(tmp_path)
    assert len(written) == tiny_config.days
    assert written.items() <= digests(tiny_root).items()


def test_a_loaded_shop_goes_on_as_the_one_that_was_saved(tiny_root: Path, tiny_shop: Shop) -> None:
    loaded = Shop.load(tiny_root)
    assert loaded.config == tiny_shop.config
    assert loaded.day_table(2).equals(tiny_shop.day_table(2))


def test_write_day_returns_rows_and_refuses_other_days(tiny_shop: Shop, tmp_path: Path) -> None:
    day = tiny_shop.config.first_day
    rows = tiny_shop.write_day(tmp_path, day)
    assert rows == Dataset(tmp_path).interactions().num_rows > 100
    with pytest.raises(UnknownDay, match="2025-12-31"):
        tiny_shop.write_day(tmp_path, date(2025, 12, 31))


def test_truth_that_is_not_there_or_does_not_fit_is_refused(folder: Path) -> None:
    pq.write_table(Dataset(folder).items().slice(1), folder / "items.parquet")
    with pytest.raises(TruthUnavailable, match=r"items\.parquet has 119 rows"):
        Shop.load(folder)
    (folder / "truth" / "model" / "item.npy").write_bytes(b"broken")
    with pytest.raises(TruthUnavailable, match=r"item\.npy"):
        Shop.load(folder)
    description = folder / "truth" / "shop.json"
    description.write_text(json.dumps({"format": 99}))
    with pytest.raises(TruthUnavailable, match="format 99"):
        Shop.load(folder)
    description.write_text("{")
    with pytest.raises(TruthUnavailable, match="not JSON"):
        Shop.load(folder)
    description.unlink()
    assert not Shop.is_oracle_available(folder)
    with pytest.raises(TruthUnavailable, match="not generated"):
        Shop.load(folder)


@pytest.mark.parametrize(
    "change",
    [{"users": 0}, {"items": 3}, {"days": 0}, {"seed": -1}, {"interactions_per_user_day": 0.0}],
)
def test_impossible_configurations_are_refused(change: dict[str, int]) -> None:
    (name,) = change
    with pytest.raises(ShopConfigInvalid, match=name):
        replace(SIZES["tiny"], **change)


def test_a_configuration_survives_json() -> None:
    config = replace(SIZES["small"], first_day=date(2026, 3, 2), seed=9)
    assert ShopConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@settings(max_examples=8, deadline=None)
@given(
    users=st.integers(1, 40),
    items=st.integers(24, 200),
    days=st.integers(1, 4),
    rate=st.floats(0.1, 8),
    seed=st.integers(0, 2**40),
)
def test_shops_of_any_size_have_coherent_days(users: int, items: int, days: int, rate: float, seed: int) -> None:
    shop = Shop.create(ShopConfig(users, items, days, rate, seed=seed))
    for number, day in enumerate(shop.config.dates()):
        table = shop.day_table(number)
        stamps = table.column("timestamp").to_numpy()
        assert (np.diff(stamps) >= 0).all()
        start = (day - date(1970, 1, 1)).days * 86_400
        assert ((stamps >= start) & (stamps < start + 86_400)).all()
        for owner, first in ((table.column("user_id"), shop.people), (table.column("item_id"), shop.catalog)):
            ids = first.user_ids if first is shop.people else shop.catalog.item_ids
            arrival = dict(zip(ids, first.first_day, strict=True))
            assert all(arrival[i] <= number for i in set(owner.to_pylist()))


def test_an_item_comes_again_only_when_its_shelf_is_exhausted(tiny_root: Path) -> None:
    shop = Shop.load(tiny_root)
    shelf = dict(zip(shop.catalog.item_ids, shop.model.item_shelf.tolist(), strict=True))
    size = Counter(shelf.values())
    met: dict[tuple[str, int], list[str]] = defaultdict(list)
    table = Dataset(tiny_root).interactions()
    for user, item in zip(table.column("user_id").to_pylist(), table.column("item_id").to_pylist(), strict=True):
        met[user, shelf[item]].append(item)
    for (_, g), items in met.items():
        for start in range(0, len(items), size[g]):
            block = items[start : start + size[g]]
            assert len(set(block)) == len(block)


def test_the_small_shop_has_its_promised_size() -> None:
    config = SIZES["small"]
    people = build_people(config)
    events = sum(len(draw_visits(config, people, day)) for day in range(config.days))
    assert 290_000 < events < 320_000
    assert 0.12 < (people.first_day > 0).mean() < 0.18
    assert people.first_day.max() == config.days - 1


def test_a_users_events_of_a_day_strictly_follow_one_another(tiny_config: ShopConfig) -> None:
    visits = draw_visits(tiny_config, build_people(tiny_config), 1)
    same = np.diff(visits.user) == 0
    assert (np.diff(visits.timestamp)[same] > 0).all()
    assert (np.diff(visits.rank)[same] == 1).all()
    assert (visits.rank[1:][~same] == 0).all()
    assert set(visits.device.tolist()) == {0, 1, 2, 3}


def test_texts_carry_style_colour_material_look_and_audience(tiny_shop: Shop) -> None:
    catalog = tiny_shop.catalog
    for n, row in enumerate(catalog.table.to_pylist()):
        for word in (
            row["category_l2"],
            tuple(COLOURS)[catalog.colour[n]],
            MATERIALS[catalog.material[n]],
            LOOKS[catalog.look[n]].name,
        ):
            assert word in row["title"]
            assert word in row["description"].lower()
        assert (row["gender"] == "F") == ("for women" in row["title"])
        assert row["price"] > 0


def test_the_full_taxonomy_has_20_categories_and_80_styles() -> None:
    assert taxonomy_for(2465) == TAXONOMY
    assert (len(TAXONOMY), sum(map(len, TAXONOMY.values()))) == (20, 80)
    styles = [style for styles in TAXONOMY.values() for style in styles]
    assert len(set(styles)) == 80
    assert 4 <= len(taxonomy_for(24)) < 20


def test_context_rows_follow_device_weekday_and_hour() -> None:
    assert device_codes(["mobile", "desktop", "tablet", None, "fridge"]).tolist() == [0, 1, 2, 3, 3]
    monday = 1_767_571_200  # 2026-01-05 00:00 UTC
    rows = context_rows(np.array([0, 0, 3]), np.array([monday, monday + 3600, monday + 6 * 86_400 + 23 * 3600]))
    assert rows.tolist() == [0, 1, CONTEXTS - 1]


def test_a_visit_without_a_device_feels_the_mean_of_the_devices() -> None:
    table = context_utilities(1, "a test", 5, 1.0).reshape(4, 7 * 24, 5)
    np.testing.assert_allclose(table[3], table[:3].mean(axis=0), atol=1e-5)
    assert np.ptp(table, axis=1).min() > 1  # the hour and the weekday move every choice


def test_progress_is_told(tiny_config: ShopConfig, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    generate(tmp_path / "shop", replace(tiny_config, users=20, items=30), lambda *step: told.append(step))
    assert ("pictures", 30, 30) in told
    assert ("interactions", 4, 4) in told
    assert validate(tmp_path / "shop") == []
