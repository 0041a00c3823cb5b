"""Rows written in bulk are, byte for byte, those that Feast writes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from cascade.online.errors import FeatureValueUnreadable
from cascade.online.feast_config import (
    ACTIVITY_VIEW,
    ENTITY,
    ONLINE_FEATURES,
    PROFILE_VIEW,
    PROJECT,
    feature_store,
    import_feast,
)
from cascade.online.feast_rows import (
    ViewRows,
    decode_value,
    encode_timestamp,
    encode_value,
    feature_field,
    row_key,
    timestamp_field,
    write_rows,
)
from cascade.online.materialise import materialise

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]
AT = 1_767_614_400_000_000
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
moments = st.integers(0, 4_000_000_000_000_000)


@pytest.fixture(autouse=True, scope="module")
def feast_imported_as_the_services_do() -> None:
    import_feast()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@given(texts)
def test_keys_and_fields_are_feasts(text: str) -> None:
    from feast.infra.online_stores.helpers import _mmh3, _redis_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    assert row_key(text) == _redis_key(PROJECT, EntityKey(join_keys=[ENTITY], entity_values=[Value(string_val=text)]))
    assert feature_field(text, "f") == _mmh3(f"{text}:f")


@given(texts, st.floats(allow_nan=False), moments)
def test_values_are_feasts(text: str, number: float, moment: int) -> None:
    from feast.protos.feast.types.Value_pb2 import Value
    from google.protobuf.timestamp_pb2 import Timestamp

    assert encode_value(text) == Value(string_val=text).SerializeToString()
    assert encode_value(number) == Value(double_val=number).SerializeToString()
    assert encode_value(None) == encode_value(float("nan")) == Value().SerializeToString()
    assert (decode_value(encode_value(text)), decode_value(encode_value(number))) == (text, number)
    stamp = Timestamp(seconds=moment // 1_000_000, nanos=1000 * (moment % 1_000_000))
    assert encode_timestamp(moment) == stamp.SerializeToString()


whole, half = st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-(1 << 31), (1 << 31) - 1)
fields_of_a_value = st.one_of(
    st.tuples(st.just("string_val"), texts),
    st.tuples(st.just("double_val"), st.floats(allow_nan=False)),
    st.tuples(st.just("float_val"), st.floats(allow_nan=False, width=32)),
    st.tuples(st.just("int64_val"), whole),
    st.tuples(st.just("int32_val"), half),
    st.tuples(st.just("bool_val"), st.booleans()),
)


@given(fields_of_a_value)
def test_what_feast_wrote_is_read_as_feast_reads_it(field: tuple[str, Any]) -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    name, value = field
    message = Value(**{name: value})
    assert decode_value(message.SerializeToString()) == getattr(message, name) == value


@given(st.binary(max_size=40))
def test_no_bytes_are_misread(stored: bytes) -> None:
    """Whatever lies there: what Feast's own message reads, or an error."""
    from feast.protos.feast.types.Value_pb2 import Value

    try:
        ours = decode_value(stored)
    except FeatureValueUnreadable:
        return
    message = Value.FromString(stored)
    kind = message.WhichOneof("val")
    theirs = None if kind in (None, "null_val") else getattr(message, kind)
    assert ours == theirs or (ours != ours and theirs != theirs)


def test_nothing_stored_is_null_and_other_types_are_refused() -> None:
    from feast.protos.feast.types.Value_pb2 import NULL, StringList, Value

    assert decode_value(None) is None
    assert decode_value(Value().SerializeToString()) is None
    assert decode_value(Value(null_val=NULL).SerializeToString()) is None
    for other in (Value(bytes_val=b"b"), Value(string_list_val=StringList(val=["a"])), Value(unix_timestamp_val=3)):
        with pytest.raises(FeatureValueUnreadable, match="no string, number or null"):
            decode_value(other.SerializeToString())
    for cut in (b"\x12\x05ab", b"\x12", b"\x12\x80", b"\x29\x00", b"\x12\x01\xff", b"\x18", b"\x18\x01\x01"):
        with pytest.raises(FeatureValueUnreadable):
            decode_value(cut)


def tables() -> dict[str, pa.Table]:
    count = 5000  # more than one batch of commands
    users = [f"user {number} \u00fc" for number in range(count)]
    stamps = pa.array([AT + number % 3 for number in range(count)], pa.timestamp("us", tz="UTC"))
    ages = [None if number % 7 == 0 else 20.0 + number % 50 for number in range(count)]
    return {
        PROFILE_VIEW: pa.table(
            {
                ENTITY: users,
                "age": pa.array(ages, pa.float64()),
                "gender": [("F", "M", None)[number % 3] for number in range(count)],
                "event_timestamp": stamps,
            }
        ),
        ACTIVITY_VIEW: pa.table(
            {ENTITY: users[::2], "top_category": ["caf\u00e9", "hats"] * 1250, "event_timestamp": stamps[::2]}
        ),
    }


def dump(client: redis.Redis) -> dict[bytes, Any]:
    return {key: client.hgetall(key) for key in client.scan_iter()}


def test_the_store_holds_what_feast_would_have_written(
    client: redis.Redis, redis_url: str, feast_registry: Path
) -> None:
    store = feature_store(feast_registry, redis_url)
    for view, table in tables().items():
        store.write_to_online_store(view, table.to_pandas())
    expected = dump(client)
    assert len(expected) == 5000
    client.flushall()
    start, end = datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)
    for view, table in tables().items():
        assert materialise(store, client, view, table, start, end) == len(table)
        assert store.get_feature_view(view).materialization_intervals[-1] == (start, end)
    assert dump(client) == expected
    answer = store.get_online_features(
        features=list(ONLINE_FEATURES), entity_rows=[{ENTITY: "user 8 \u00fc"}, {ENTITY: "nobody"}]
    ).to_dict()
    assert (answer["age"], answer["gender"]) == ([28.0, None], [None, None])
    assert answer["top_category"] == ["caf\u00e9", None]


@pytest.mark.parametrize(
    ("later_us", "kept"), [(-86_400_000_000, False), (-1, False), (0, False), (1, True), (10_000_000_000, True)]
)
def test_a_later_event_is_kept_and_the_same_one_written_anew(
    client: redis.Redis, redis_url: str, feast_registry: Path, later_us: int, kept: bool
) -> None:
    store = feature_store(feast_registry, redis_url)
    stamp = datetime.fromtimestamp(AT // 1_000_000, UTC) + timedelta(microseconds=later_us)
    pushed = pd.DataFrame(
        {ENTITY: ["u"], "top_category": ["pushed"], "event_timestamp": pd.Series([stamp], dtype="datetime64[us, UTC]")}
    )
    store.write_to_online_store(ACTIVITY_VIEW, pushed)
    rows = ViewRows(ACTIVITY_VIEW, ["u", "v"], [AT, AT], {"top_category": ["built", None]})
    assert write_rows(client, rows) == 2 - kept
    answer = store.get_online_features(features=list(ONLINE_FEATURES), entity_rows=[{ENTITY: "u"}]).to_dict()
    assert answer["top_category"] == ["pushed" if kept else "built"]
    assert write_rows(client, rows, keep_later=False) == 2
    assert client.hget(row_key("u"), feature_field(ACTIVITY_VIEW, "top_category")) == encode_value("built")


@given(moments, moments)
def test_later_is_later(redis_server: Any, stored: int, new: int) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.delete(row_key("u"))
        for moment in (stored, new):
            write_rows(client, ViewRows("v", ["u"], [moment], {"f": [str(moment)]}))
        kept = max(stored, new)
        assert client.hgetall(row_key("u")) == {
            timestamp_field("v"): encode_timestamp(kept),
            feature_field("v", "f"): encode_value(str(kept)),
        }


def test_columns_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="1 age of 2 users of user_profile"):
        ViewRows(PROFILE_VIEW, ["u", "v"], [AT, AT], {"age": [3.0]})


def test_no_rows_are_no_error(client: redis.Redis) -> None:
    assert write_rows(client, ViewRows("v", [], [], {"f": []})) == 0
