"""Impressions in a real stream."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.api.common import MAX_TIMESTAMP_S
from cascade.api.impressions import Impression, ImpressionItem
from cascade.online import keys
from cascade.online.connection import connect
from cascade.online.errors import OnlineStoreDown
from cascade.online.impressions import ImpressionStream, impression_of
from cascade.online.pipelined import PipelinedRedis

text = st.text(max_size=20)
ids = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20).map(
    lambda text: unicodedata.normalize("NFC", text)
)
impressions = st.builds(
    Impression,
    request_id=ids,
    user_id=ids,
    timestamp=st.integers(0, MAX_TIMESTAMP_S),
    device_type=st.none() | text,
    items=st.lists(
        st.builds(
            ImpressionItem,
            item_id=ids,
            position=st.integers(0, 100),
            score=st.none() | st.floats(0, 1),
            propensity=st.floats(0, 1),
        ),
        max_size=3,
    ),
    versions=st.dictionaries(text, text, max_size=2),
    tracks=st.dictionaries(text, text, max_size=2),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(st.lists(impressions, min_size=1, max_size=4))
async def test_what_is_appended_is_read_back(redis_url: str, shown: list[Impression]) -> None:
    client, writer = connect(redis_url), PipelinedRedis(redis_url, 5)
    try:
        await client.delete(keys.IMPRESSIONS)
        await ImpressionStream(writer, 1000).append([one.model_dump_json() for one in shown])
        entries: Any = await client.xrange(keys.IMPRESSIONS)
        assert [impression_of(fields) for _, fields in entries] == shown
    finally:
        await client.aclose()
        await writer.aclose()


def test_a_payload_is_the_agreed_one() -> None:
    payload = {
        "request_id": "r", "user_id": "u", "timestamp": 5, "device_type": None,
        "items": [{"item_id": "i", "position": 0, "score": None, "propensity": 1.0}],
        "versions": {"retrieval": "v"}, "tracks": {"retrieval": "stable"},
    }  # fmt: skip
    read = impression_of({"payload": json.dumps(payload)})
    assert json.loads(read.model_dump_json()) == {**payload, "assigned": {}, "forced": [], "served": None}


@pytest.mark.parametrize("fields", [{}, {"payload": "{"}, {"payload": "{}"}, {b"payload": b'{"request_id": 1}'}])
def test_an_entry_that_is_none_is_told(fields: Any) -> None:
    with pytest.raises((KeyError, ValueError)):
        impression_of(fields)


async def test_the_stream_is_bounded(redis_url: str) -> None:
    client, writer = connect(redis_url), PipelinedRedis(redis_url, 5)
    try:
        stream = ImpressionStream(writer, kept=100)
        one = Impression(request_id="r", user_id="u", timestamp=1, device_type=None, items=[], versions={}, tracks={})
        for _ in range(10):
            await stream.append([one.model_dump_json()] * 100)
        assert 100 <= await client.xlen(keys.IMPRESSIONS) < 400  # trimmed a node of entries at a time
    finally:
        await client.aclose()
        await writer.aclose()


async def test_a_store_that_is_gone_says_so() -> None:
    one = Impression(request_id="r", user_id="u", timestamp=0, device_type=None, items=[], versions={}, tracks={})
    with pytest.raises(OnlineStoreDown, match="connecting"):
        await ImpressionStream(PipelinedRedis("redis://127.0.0.1:1/0", 1), 100).append([one.model_dump_json()])
