"""What every message has in common."""

from __future__ import annotations

import json

import pytest

from cascade.api.common import Message
from cascade.api.filter import FilterRequest, SeenResponse


@pytest.mark.parametrize(
    ("kind", "content", "name"),
    [
        (FilterRequest, {"user_id": "nobody-812345", "item_ids": []}, "user_id"),
        (SeenResponse, {"event_id": "1764538000000-17"}, "event_id"),
    ],
)
def test_process_keeps_no_string_of_a_message_that_is_gone(kind: type[Message], content: object, name: str) -> None:
    body = json.dumps(content).encode()
    first, second = (kind.model_validate_json(body) for _ in range(2))
    assert first == second
    # pydantic's cache would give both the same object, and hold it
    assert getattr(first, name) is not getattr(second, name)
