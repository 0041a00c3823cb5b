"""The way of impressions to the stream: never in an answer's way, and none lost without being counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from cascade.online.errors import OnlineStoreDown
from services.gateway.impressions import ImpressionLog


def impression(number: int) -> bytes:
    return f"r{number}".encode()


class Counted:
    """An ImpressionObserver that remembers."""

    def __init__(self) -> None:
        self.written = 0
        self.shed: Counter[str] = Counter()

    def impressions_written(self, count: int) -> None:
        self.written += count

    def impressions_shed(self, count: int, reason: str) -> None:
        self.shed[reason] += count


class Store:
    """A stream that fails, or hangs until it is let go, as it is told."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def append(self, impressions: Sequence[bytes]) -> None:
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.batches.append([one.decode() for one in impressions])

    @property
    def ids(self) -> list[str]:
        return [one for batch in self.batches for one in batch]


async def test_impressions_arrive_in_order_and_in_batches(eventually: Any) -> None:
    store, counted = Store(), Counted()
    log = ImpressionLog(store.append, counted, bound=100, batch=4)
    for number in range(10):
        log.shown(partial(impression, number))
    assert store.batches == []  # nothing is written while a request is being answered
    await eventually(lambda: counted.written == 10)
    assert store.ids == [f"r{number}" for number in range(10)]
    assert [len(batch) for batch in store.batches] == [4, 4, 2]
    await log.aclose()
    assert not counted.shed


async def test_a_hanging_store_fills_the_queue_and_no_more(eventually: Any) -> None:
    store, counted = Store(), Counted()
    store.open.clear()
    log = ImpressionLog(store.append, counted, bound=5, batch=2)
    log.shown(partial(impression, 0))
    await asyncio.sleep(0)  # the writer takes it and hangs
    for number in range(1, 10):
        log.shown(partial(impression, number))
    assert counted.shed == {"full": 4}
    store.open.set()
    await eventually(lambda: counted.written == 6)
    await log.aclose()
    assert store.ids == [f"r{number}" for number in range(6)]


async def test_what_a_failing_store_does_not_take_is_shed_and_it_is_tried_again(eventually: Any) -> None:
    store, counted = Store(), Counted()
    store.error = OnlineStoreDown("gone")
    log = ImpressionLog(store.append, counted, bound=100, batch=1)
    for number in range(3):
        log.shown(partial(impression, number))
    await eventually(lambda: counted.shed["store"] == 3)
    store.error = None
    log.shown(partial(impression, 3))
    await eventually(lambda: counted.written == 1)
    await log.aclose()
    assert store.ids == ["r3"]


async def test_a_defect_does_not_end_the_log(eventually: Any) -> None:
    store, counted = Store(), Counted()
    store.error = ZeroDivisionError()
    log = ImpressionLog(store.append, counted, bound=100)
    log.shown(partial(impression, 0))
    await eventually(lambda: counted.shed["store"] == 1)
    store.error = None
    log.shown(partial(impression, 1))
    await eventually(lambda: store.ids == ["r1"])
    await log.aclose()


async def test_closing_writes_what_waits() -> None:
    store, counted = Store(), Counted()
    log = ImpressionLog(store.append, counted, bound=100, batch=3, drain_s=60)
    for number in range(8):
        log.shown(partial(impression, number))
    await log.aclose()
    assert len(store.ids) == 8
    log.shown(partial(impression, 8))
    assert (counted.written, counted.shed) == (8, {"closing": 1})


@pytest.mark.parametrize("drain_s", [0.0, 0.02])
async def test_closing_does_not_wait_for_a_store_that_hangs(drain_s: float) -> None:
    store, counted = Store(), Counted()
    store.open.clear()
    log = ImpressionLog(store.append, counted, bound=100, batch=3, drain_s=drain_s)
    for number in range(8):
        log.shown(partial(impression, number))
    with capture_logs():
        await log.aclose()
    assert (counted.written, counted.shed) == (0, {"closing": 8})


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["show", "show", "show", "hang", "open", "fail", "heal", "turn"]), max_size=60),
    st.integers(1, 6),
    st.integers(1, 4),
)
async def test_each_impression_is_written_or_counted_as_shed(steps: list[str], bound: int, batch: int) -> None:
    store, counted, offered = Store(), Counted(), 0
    with capture_logs():
        log = ImpressionLog(store.append, counted, bound=bound, batch=batch, drain_s=0.0)
        for step in steps:
            if step == "show":
                log.shown(partial(impression, offered))
                offered += 1
            elif step == "hang":
                store.open.clear()
            elif step == "open":
                store.open.set()
            elif step in ("fail", "heal"):
                store.error = OnlineStoreDown("gone") if step == "fail" else None
            else:
                await asyncio.sleep(0)
        await log.aclose()
    assert counted.written + counted.shed.total() == offered
    assert counted.written == len(store.ids) == len(set(store.ids))
    assert store.ids == sorted(store.ids, key=lambda one: int(one[1:]))
