"""Event streams: their form, their end, their bound."""

from __future__ import annotations

import asyncio
import signal

import pytest

from cascade.serving import server_events
from cascade.serving.errors import QueueFull
from cascade.serving.server_events import EventStreams, ServerEvent


def test_the_form_of_an_event() -> None:
    assert ServerEvent("changed", {"text": "a\nb"}).encode() == b'event: changed\ndata: {"text":"a\\nb"}\n\n'


async def test_what_the_source_gives_is_told_until_the_streams_end() -> None:
    streams = EventStreams(1)
    rounds = iter([[ServerEvent("one", 1)], [], [ServerEvent("two", 2), ServerEvent("three", 3)]])

    async def poll() -> list[ServerEvent]:
        found = next(rounds, None)
        if found is None:
            streams.close()
        return found or []

    lines = [line async for line in streams.lines(poll, 0.001)]

    assert lines[0] == b"retry: 1000\n\n"
    assert [line.split()[1] for line in lines[1:]] == [b"one", b"two", b"three"]


async def test_a_quiet_stream_sends_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_events, "QUIET_S", 0.0)
    streams = EventStreams(1)

    async def poll() -> list[ServerEvent]:
        return []

    lines = streams.lines(poll, 0.001)
    assert await anext(lines) == b"retry: 1000\n\n"
    assert await anext(lines) == b":\n\n"
    await lines.aclose()  # type: ignore[attr-defined]


def test_beyond_the_bound_none_is_opened() -> None:
    streams = EventStreams(1)

    async def poll() -> list[ServerEvent]:
        return []

    streams.response(poll, 1.0)
    with streams.counted(), pytest.raises(QueueFull, match="the bound is 1"):
        streams.response(poll, 1.0)
    assert streams.open == 0


async def test_a_signal_ends_them_and_the_servers_own_handler_runs() -> None:
    streams = EventStreams(1)
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        with streams.ended_by_signals():
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert streams._closing.is_set()
        assert told == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert told == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)
