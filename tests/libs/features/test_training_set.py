from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from cascade.features import training_set as module
from cascade.features.errors import FeatureFileCorruptedError, FeatureFileMissingError, FeatureInputError
from cascade.features.history import Histories
from cascade.features.item_table import ItemTable
from cascade.features.masking import Masking, mask_devices, mask_users
from cascade.features.point_in_time import ROWS_SCHEMA
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import ContextTransform, UserTransform
from cascade.training.replay import concatenated

MASKING = Masking(seed=11, user_share=0.3, device_share=0.3)
FIELDS = ("item_position", "timestamp")


@dataclass
class Parts:
    rows: Path
    user: UserTransform
    context: ContextTransform
    items: ItemTable

    def build(self, **options: Any) -> TrainingSet:
        return TrainingSet.build(self.rows, self.user, self.context, self.items, **options)


@pytest.fixture
def table() -> pa.Table:
    """1,000 rows, a tenth of them of an item that is gone."""
    random = np.random.default_rng(5)
    count = 1000
    choose = random.choice
    columns = {
        "user_id": choose(["u1", "u2", "stranger"], count),
        "item_id": choose(["i1", "i2", "i3", "i4", "gone"], count, p=[0.3, 0.3, 0.2, 0.1, 0.1]),
        "timestamp": np.sort(random.integers(1_767_600_000, 1_767_900_000, count)),
        "device_type": choose(np.array(["mobile", "desktop", None], object), count),
        "event_type": np.full(count, "view"),
        "age": pa.array(random.integers(10, 80, count), mask=random.random(count) < 0.2),
        "gender": choose(np.array(["F", "M", None], object), count),
        "top_category": choose(np.array(["shoes", "hats", None], object), count),
        "feature_timestamp": pa.nulls(count),
    }
    return pa.table({name: pa.array(values) for name, values in columns.items()}).cast(ROWS_SCHEMA)


@pytest.fixture
def parts(
    table: pa.Table,
    user_transform: UserTransform,
    context_transform: ContextTransform,
    item_table: ItemTable,
    tmp_path: Path,
) -> Parts:
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=130)
    return Parts(tmp_path / "rows.parquet", user_transform, context_transform, item_table)


def assert_same(one: TrainingSet, other: TrainingSet) -> None:
    for side in ("user", "context"):
        for field in ("categorical", "continuous"):
            a, b = getattr(getattr(one, side), field), getattr(getattr(other, side), field)
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    assert one.dropped_rows == other.dropped_rows


def test_rows_are_the_transforms_without_items_that_are_gone(parts: Parts, table: pa.Table) -> None:
    built = parts.build()
    kept = table.filter(pa.compute.not_equal(table.column("item_id"), "gone"))
    assert len(built) == len(kept)
    assert built.dropped_rows == len(table) - len(kept) > 0
    np.testing.assert_array_equal(built.user.categorical, parts.user.transform(kept).categorical)
    np.testing.assert_array_equal(built.user.continuous, parts.user.transform(kept).continuous)
    np.testing.assert_array_equal(built.context.categorical, parts.context.transform(kept).categorical)
    np.testing.assert_array_equal(built.context.continuous, parts.context.transform(kept).continuous)
    np.testing.assert_array_equal(built.timestamp, kept.column("timestamp").to_numpy())
    assert [parts.items.item_ids[at] for at in built.item_position] == kept.column("item_id").to_pylist()


@pytest.mark.parametrize("masking", [None, MASKING])
def test_a_folder_holds_what_memory_would_whatever_the_batch(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, masking: Masking | None
) -> None:
    held = parts.build(masking=masking)
    monkeypatch.setattr(module, "BATCH_ROWS", 77)
    mapped = parts.build(masking=masking, folder=tmp_path / "set")
    assert isinstance(mapped.timestamp, np.memmap)
    assert_same(held, mapped)
    again = parts.build(masking=masking, folder=tmp_path / "set")
    assert_same(held, again)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.parquet", "set"]


def test_masking_while_building_is_masking_afterwards(parts: Parts) -> None:
    plain, masked = parts.build(), parts.build(masking=MASKING)
    assert_same(plain.masked(MASKING), masked)
    np.testing.assert_array_equal(masked.user.categorical, mask_users(plain.user, 0.3, 11).categorical)
    np.testing.assert_array_equal(masked.context.categorical, mask_devices(plain.context, 0.3, 11).categorical)
    assert (masked.user.categorical != plain.user.categorical).any()


@pytest.mark.parametrize("mmap", [False, True])
def test_save_load(parts: Parts, tmp_path: Path, mmap: bool) -> None:
    built = parts.build(masking=MASKING)
    built.save(tmp_path / "saved")
    loaded = TrainingSet.load(tmp_path / "saved", mmap=mmap)
    assert_same(built, loaded)
    assert isinstance(loaded.timestamp, np.memmap) == mmap


def test_take_keeps_rows_together(parts: Parts) -> None:
    built = parts.build()
    chosen = np.array([5, 3, 3])
    taken = built.take(chosen)
    assert len(taken) == 3
    np.testing.assert_array_equal(taken.item_position, built.item_position[chosen])
    np.testing.assert_array_equal(taken.user.categorical, built.user.categorical[chosen])


def test_no_rows_at_all(parts: Parts, table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table.slice(0, 0), parts.rows)
    assert len(parts.build()) == 0
    assert len(parts.build(folder=tmp_path / "set", masking=MASKING)) == 0


def test_progress_ends_with_all_rows(parts: Parts) -> None:
    calls: list[tuple[int, int]] = []
    built = parts.build(progress=lambda *call: calls.append(call))
    assert calls[-1] == (len(built), len(built))


def test_faults_are_named(parts: Parts, table: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(FeatureFileMissingError, match="training_rows first"):
        TrainingSet.build(tmp_path / "nowhere", parts.user, parts.context, parts.items)
    pq.write_table(table.drop_columns(["gender", "age"]), parts.rows)
    with pytest.raises(FeatureInputError, match="missing: age, gender"):
        parts.build(folder=tmp_path / "set")
    assert not (tmp_path / "set").exists()
    assert not list(tmp_path.glob(".*"))


def test_load_refuses_an_altered_folder(parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(FeatureFileMissingError):
        TrainingSet.load(tmp_path / "set")
    parts.build(folder=tmp_path / "set")
    np.save(tmp_path / "set" / "timestamp.npy", np.zeros(3, np.int64))
    with pytest.raises(FeatureFileCorruptedError, match=r"timestamp\.npy"):
        TrainingSet.load(tmp_path / "set")


def test_columns_of_different_length_are_refused(parts: Parts) -> None:
    built = parts.build()
    with pytest.raises(FeatureInputError, match="differ in length"):
        TrainingSet(built.user, built.context, built.item_position[:5], built.timestamp)


def test_histories_go_with_their_rows(parts: Parts, table: pa.Table, tmp_path: Path) -> None:
    """Rows of unknown items are left out, and so are their histories; saved and mapped they are the same."""
    count = len(table)
    starts = np.arange(count, dtype=np.int64)
    events = np.arange(count + 3, dtype=np.int32)
    histories = Histories(events, np.ones(len(events), np.int8), events.astype(np.int64), starts, starts + 3)
    known = np.array([item != "gone" for item in table.column("item_id").to_pylist()])
    for built in (parts.build(histories=histories), parts.build(histories=histories, folder=tmp_path / "set")):
        assert built.histories is not None
        np.testing.assert_array_equal(built.histories.history_start, starts[known])
        np.testing.assert_array_equal(built.histories.event_item, events)
        taken = built.take(np.array([5, 2])).histories
        assert taken is not None
        np.testing.assert_array_equal(taken.history_start, starts[known][[5, 2]])
    built.save(tmp_path / "again")
    again = TrainingSet.load(tmp_path / "again").histories
    assert again is not None
    np.testing.assert_array_equal(again.history_end, starts[known] + 3)
    with pytest.raises(FeatureInputError, match="999 histories for 1000 rows"):
        parts.build(histories=histories.take(slice(1, None)))


WEIGHTS = {"purchase": 5.0, "view": 0.5}


@pytest.fixture
def typed(parts: Parts, table: pa.Table) -> NDArray[np.float32]:
    """The file's rows with other event types; what the rows that are kept weigh."""
    kinds = np.random.default_rng(1).choice(["view", "purchase", "click"], len(table))
    place = table.schema.get_field_index("event_type")
    pq.write_table(table.set_column(place, "event_type", pa.array(kinds)), parts.rows)
    of_kind = {"click": 1.0, **WEIGHTS}
    weight = np.array([of_kind[kind] for kind in kinds], np.float32)
    return weight[[item != "gone" for item in table.column("item_id").to_pylist()]]


def test_rows_weigh_what_their_event_type_does(
    parts: Parts, typed: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 77)
    built = parts.build(weights=WEIGHTS, masking=MASKING)
    built.save(tmp_path / "saved")
    mapped = parts.build(weights=WEIGHTS, masking=MASKING, folder=tmp_path / "set")
    for one in (built, mapped, TrainingSet.load(tmp_path / "saved"), built.masked(MASKING)):
        assert one.weight is not None
        np.testing.assert_array_equal(one.weight, typed)
    assert parts.build().weight is None
    assert built.take(np.array([5, 3])).weight.tolist() == typed[[5, 3]].tolist()  # type: ignore[union-attr]


def test_a_set_without_weights_counts_one_beside_one_with(parts: Parts, typed: NDArray[np.float32]) -> None:
    both = concatenated([parts.build(weights=WEIGHTS), parts.build()])
    np.testing.assert_array_equal(both.weight, np.concatenate([typed, np.ones_like(typed)]))
    assert concatenated([parts.build(), parts.build()]).weight is None
