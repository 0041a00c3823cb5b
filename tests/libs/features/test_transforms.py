from __future__ import annotations

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.features.errors import (
    FeatureFileCorruptedError,
    FeatureFileMissingError,
    FeatureFormatError,
    FeatureInputError,
)
from cascade.features.spec import Encoded
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform

# Fixtures here are immutable: examples may share them.
shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

numbers = st.one_of(st.none(), st.floats(), st.floats(0, 120), st.integers(-5, 10**6).map(float))


def one_of(*values: str) -> st.SearchStrategy[str | None]:
    return st.sampled_from([*values, "unheard of", "", None])


def assert_identical(one: Encoded, other: Encoded) -> None:
    """Bit for bit: types, shapes and values."""
    for a, b in ((one.categorical, other.categorical), (one.continuous, other.continuous)):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()


# User


def test_user_columns(user_transform: UserTransform) -> None:
    encoded = user_transform.encode(["u1", "u3", "stranger"], [20, 60, None], ["F", "M", None], ["shoes", "hats", None])
    # u1..u4, F M, six buckets, bags hats shoes; each with OOV
    assert user_transform.cardinalities == (5, 3, 7, 4)
    assert encoded.categorical.tolist() == [[1, 1, 2, 3], [3, 2, 5, 2], [0, 0, 4, 0]]
    deviation = math.sqrt(800 / 3)
    np.testing.assert_allclose(encoded.continuous[:, 0], [-20 / deviation, 20 / deviation, 0], rtol=1e-6)
    assert (encoded.categorical.dtype, encoded.continuous.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize("age", [None, math.nan, math.inf, -math.inf, -1, 131, 1e300])
def test_unknown_age_is_the_mean(user_transform: UserTransform, age: float | None) -> None:
    unknown = user_transform.encode(["u1"], [age], ["F"], ["shoes"])
    assert_identical(unknown, user_transform.encode(["u1"], [40], ["F"], ["shoes"]))
    assert unknown.continuous[0, 0] == 0


@pytest.mark.parametrize(("age", "bucket"), [(0, 1), (17, 1), (18, 2), (24, 2), (25, 3), (64, 5), (65, 6), (130, 6)])
def test_age_buckets(user_transform: UserTransform, age: int, bucket: int) -> None:
    assert user_transform.encode(["u1"], [age], ["F"], [None]).categorical[0, 2] == bucket


@given(rows=st.lists(st.tuples(one_of("u1", "u2"), numbers, one_of("F", "M"), one_of("shoes", "hats")), max_size=20))
@shared
def test_user_encode_is_transform(user_transform: UserTransform, rows: list[Any]) -> None:
    ids, ages, genders, categories = (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 4
    table = pa.table(
        {
            "user_id": pa.array(ids, pa.string()),
            "age": pa.array(ages, pa.float64()),
            "gender": pa.array(genders, pa.string()),
            "top_category": pa.array(categories, pa.string()),
        }
    )
    bulk = user_transform.transform(table)
    assert_identical(bulk, user_transform.encode(ids, ages, genders, categories))
    for row, (user, age, gender, category) in enumerate(rows):
        assert_identical(bulk.take(slice(row, row + 1)), user_transform.encode([user], [age], [gender], [category]))
    assert np.isfinite(bulk.continuous).all()
    assert (bulk.categorical < user_transform.cardinalities).all()
    assert (bulk.categorical >= 0).all()


def test_integer_ages_equal_float_ages(user_transform: UserTransform) -> None:
    columns = {"user_id": ["u1"] * 3, "gender": ["F"] * 3, "top_category": pa.nulls(3)}
    as_int = user_transform.transform(pa.table({**columns, "age": pa.array([7, None, 90], pa.int32())}))
    assert_identical(as_int, user_transform.encode(["u1"] * 3, [7.0, None, 90.0], ["F"] * 3, [None] * 3))


@pytest.mark.parametrize("ages", [[30, 30, 30], [None, None, None], [0.1, 0.1, 0.1]])
def test_constant_or_absent_ages_stay_finite(ages: list[float | None]) -> None:
    users = pa.table({"user_id": ["a", "b", "c"], "age": pa.array(ages, pa.float64()), "gender": pa.nulls(3)})
    transform = UserTransform.fit(users, [])
    assert transform.encode(["a"], [ages[0]], [None], [None]).continuous[0, 0] == pytest.approx(0, abs=1e-9)
    assert np.isfinite(transform.encode(["a"], [99], [None], [None]).continuous).all()


# Item


def test_item_columns(items: pa.Table, item_transform: ItemTransform) -> None:
    encoded = item_transform.transform(items)
    # i4 was never seen in training: its id and its category have no row
    assert item_transform.cardinalities == (4, 3, 4, 3)
    assert encoded.categorical.tolist() == [[1, 2, 1, 1], [2, 2, 3, 2], [3, 1, 2, 0], [0, 0, 0, 1]]
    logs = np.log1p([10, 20])
    expected = (np.log1p([10, 20, 0, 40]) - logs.mean()) / logs.std()
    expected[2] = 0
    np.testing.assert_allclose(encoded.continuous[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("price", [None, math.nan, math.inf, -0.01])
def test_unknown_price_is_the_mean(item_transform: ItemTransform, price: float | None) -> None:
    assert item_transform.encode(["i1"], [None], [None], [price], [None]).continuous[0, 0] == 0


@given(
    rows=st.lists(
        st.tuples(one_of("i1", "i4"), one_of("shoes"), one_of("caps"), numbers, one_of("F", "M")), max_size=20
    )
)
@shared
def test_item_encode_is_transform(item_transform: ItemTransform, rows: list[Any]) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 5
    ids, l1, l2, prices, genders = columns
    strings = {"item_id": ids, "category_l1": l1, "category_l2": l2, "gender": genders}
    table = pa.table({name: pa.array(values, pa.string()) for name, values in strings.items()})
    table = table.append_column("price", pa.array(prices, pa.float64()))
    bulk = item_transform.transform(table)
    assert_identical(bulk, item_transform.encode(ids, l1, l2, prices, genders))
    for row, values in enumerate(rows):
        single = item_transform.encode(*([value] for value in values))
        assert_identical(bulk.take(slice(row, row + 1)), single)
    assert np.isfinite(bulk.continuous).all()


def test_item_fit_needs_an_item_of_the_catalog(items: pa.Table) -> None:
    with pytest.raises(FeatureInputError, match="none of the 1 items"):
        ItemTransform.fit(items, ["of another shop"])


# Context


@given(
    seconds=st.lists(st.integers(-(2**40), 2**40), max_size=20),
    device=one_of("mobile", "desktop", "tablet"),
)
@shared
def test_context_encode_is_transform_and_follows_the_calendar(
    context_transform: ContextTransform, seconds: list[int], device: str | None
) -> None:
    devices = [device] * len(seconds)
    table = pa.table({"device_type": pa.array(devices, pa.string()), "timestamp": pa.array(seconds, pa.int64())})
    bulk = context_transform.transform(table)
    assert_identical(bulk, context_transform.encode(devices, seconds))
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    for row, second in enumerate(seconds):
        assert_identical(bulk.take(slice(row, row + 1)), context_transform.encode([device], [second]))
        # The calendar holds the years 1 to 9999 alone; it repeats itself every 400 of them.
        moment = epoch + dt.timedelta(seconds=second % (146_097 * 86_400))
        hour, weekday = 2 * math.pi * moment.hour / 24, 2 * math.pi * moment.weekday() / 7
        expected = [math.sin(hour), math.cos(hour), math.sin(weekday), math.cos(weekday)]
        np.testing.assert_allclose(bulk.continuous[row], expected, atol=1e-6)


def test_devices(context_transform: ContextTransform) -> None:
    assert context_transform.cardinalities == (3,)
    encoded = context_transform.encode(["desktop", "mobile", "tablet", "fridge", None], [0] * 5)
    assert encoded.categorical.tolist() == [[1], [2], [0], [0], [0]]


def test_a_device_outside_the_contract_gets_no_row() -> None:
    transform = ContextTransform.fit(pa.table({"device_type": ["fridge", "tablet"]}))
    assert transform.cardinalities == (2,)


def test_context_needs_every_moment(context_transform: ContextTransform) -> None:
    table = pa.table({"device_type": ["mobile"], "timestamp": pa.array([None], pa.int64())})
    with pytest.raises(FeatureInputError, match="1 nulls"):
        context_transform.transform(table)


# All three


def test_a_missing_column_is_named(user_transform: UserTransform) -> None:
    with pytest.raises(FeatureInputError, match="missing: gender, top_category"):
        user_transform.transform(pa.table({"user_id": ["u1"], "age": [1]}))


def test_a_column_of_another_type_is_named(user_transform: UserTransform) -> None:
    table = pa.table({"user_id": ["u1"], "age": ["old"], "gender": ["F"], "top_category": ["hats"]})
    with pytest.raises(FeatureInputError, match="'age' holds string"):
        user_transform.transform(table)


@pytest.mark.parametrize("name", ["user_transform", "item_transform", "context_transform"])
class TestPersistence:
    def test_save_load_is_the_same_transform(self, name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        fitted = request.getfixturevalue(name)
        fitted.save(tmp_path / "t")
        loaded = type(fitted).load(tmp_path / "t")
        assert loaded.version == fitted.version
        assert loaded.cardinalities == fitted.cardinalities
        table = {
            "user_transform": lambda: pa.table(
                {"user_id": ["u1", "x"], "age": [33, None], "gender": ["M", None], "top_category": ["hats", None]}
            ),
            "item_transform": lambda: request.getfixturevalue("items"),
            "context_transform": lambda: pa.table({"device_type": ["mobile", None], "timestamp": [0, 10**9]}),
        }[name]()
        assert_identical(loaded.transform(table), fitted.transform(table))
        assert not list((tmp_path / "t").glob(".*"))

    def test_a_missing_folder_is_named(self, name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        with pytest.raises(FeatureFileMissingError, match="nowhere"):
            type(request.getfixturevalue(name)).load(tmp_path / "nowhere")

    def test_a_newer_format_is_refused(self, name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        fitted = request.getfixturevalue(name)
        fitted.save(tmp_path)
        _edit(tmp_path, lambda content: content.update(format=2))
        with pytest.raises(FeatureFormatError, match="update Cascade"):
            type(fitted).load(tmp_path)

    def test_a_foreign_vocabulary_is_refused(self, name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        fitted = request.getfixturevalue(name)
        fitted.save(tmp_path)
        path = next(iter(sorted(tmp_path.glob("*.parquet"))))
        type(request.getfixturevalue("context_transform").devices).build(["other"]).save(path)
        with pytest.raises(FeatureFileCorruptedError, match="do not add up"):
            type(fitted).load(tmp_path)

    def test_broken_json_is_refused(self, name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        fitted = request.getfixturevalue(name)
        fitted.save(tmp_path)
        (tmp_path / "transform.json").write_text('{"kind": "us')
        with pytest.raises(FeatureFileCorruptedError, match="not JSON"):
            type(fitted).load(tmp_path)


def test_an_altered_mean_is_refused(user_transform: UserTransform, tmp_path: Path) -> None:
    user_transform.save(tmp_path)
    _edit(tmp_path, lambda content: content["standardisers"]["age"].update(mean=41.0))
    with pytest.raises(FeatureFileCorruptedError, match="do not add up"):
        UserTransform.load(tmp_path)
    _edit(tmp_path, lambda content: content.pop("standardisers"))
    with pytest.raises(FeatureFileCorruptedError, match="standardisers"):
        UserTransform.load(tmp_path)


def test_another_transform_is_refused(user_transform: UserTransform, tmp_path: Path) -> None:
    user_transform.save(tmp_path)
    with pytest.raises(FeatureFormatError, match="expected 'item-transform'"):
        ItemTransform.load(tmp_path)


def test_version_follows_the_content(users: pa.Table) -> None:
    one, same = UserTransform.fit(users, ["a"]), UserTransform.fit(users.take([3, 2, 1, 0]), ["a", "a"])
    assert one.version == same.version
    assert one.version != UserTransform.fit(users, ["b"]).version
    assert one.version != UserTransform.fit(users.slice(1), ["a"]).version


def _edit(folder: Path, change: Any) -> None:
    path = folder / "transform.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
