"""What the store says of canaries reaches the gateway, and a store that says nothing any more ends them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from cascade.store.canary import Canary
from services.gateway.canaries import CanaryWatch
from services.gateway.tracks import Tracks

CANARY = Canary("v2", 5.0, 0, "running", "", 100.0, 100.0)


@dataclass
class Notes:
    """Both observers."""

    shares: dict[str, float] = field(default_factory=dict)
    unreads: list[str] = field(default_factory=list)

    def share(self, service: str, percent: float) -> None:
        self.shares[service] = percent

    def unread(self, service: str) -> None:
        self.unreads.append(service)

    def answer(self, service: str, track: str, version: str | None, degraded: bool) -> None:
        """Not asked for here."""


@dataclass
class Store:
    """Says what it is told to say, or raises it; `gate` holds the readers of the ranker up."""

    says: dict[str, Canary | Exception | None] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)
    reads: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    def read(self, service: str) -> Canary | None:
        if service == "ranker":
            self.reads += 1
            assert self.gate.wait(60)
        said = self.says.get(service)
        if isinstance(said, Exception):
            raise said
        return said


@dataclass
class Time:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


Made = tuple[CanaryWatch, Tracks, Store, Notes, Time]


@pytest.fixture
def make() -> Callable[..., Made]:
    def made(poll_s: float = 30.0, keep_s: float = 5.0) -> Made:
        notes, store, clock = Notes(), Store(), Time()
        tracks = Tracks(notes)
        watch = CanaryWatch(store.read, tracks, notes, poll_s=poll_s, keep_s=keep_s, clock=clock)
        return watch, tracks, store, notes, clock

    return made


async def test_a_canary_is_followed_from_its_start_to_its_end(make: Callable[..., Made]) -> None:
    watch, tracks, store, notes, _ = make()
    assert await watch.look() == {"retrieval": 0.0, "ranker": 0.0}
    assert notes.shares == {"retrieval": 0.0, "ranker": 0.0}
    for percent in (5.0, 25.0):
        store.says["ranker"] = replace(CANARY, percent=percent)
        assert await watch.look() == {"retrieval": 0.0, "ranker": percent}
        assert notes.shares["ranker"] == percent
        assert tracks.running["ranker"].percent == percent
    store.says["ranker"] = replace(CANARY, percent=0.0, state="aborted", reason="slower")
    with capture_logs() as logs:
        await watch.look()
    assert [(entry["event"], entry["why"]) for entry in logs] == [("no canary", "slower")]
    assert notes.shares["ranker"] == 0.0
    assert not tracks.running


async def test_it_looks_again_and_again_by_itself(make: Callable[..., Made], eventually: Any) -> None:
    watch, tracks, store, _, _ = make(poll_s=0.01)
    await watch.start()
    store.says["retrieval"] = CANARY
    await eventually(lambda: "retrieval" in tracks.running)
    store.says["retrieval"] = None
    await eventually(lambda: not tracks.running)
    await watch.aclose()
    await watch.aclose()


async def test_an_unreadable_store_ends_a_canary_after_a_while(make: Callable[..., Made]) -> None:
    watch, tracks, store, notes, clock = make(keep_s=5.0)
    store.says["ranker"] = CANARY
    await watch.look()
    store.says["ranker"] = PermissionError("not yours")
    with capture_logs() as logs:
        clock.now += 4.9
        await watch.look()
        assert "ranker" in tracks.running
        clock.now += 0.1
        await watch.look()
        assert not tracks.running
    assert notes.shares["ranker"] == 0.0
    assert notes.unreads == ["ranker", "ranker"]
    assert [entry["event"] for entry in logs] == ["the store does not tell of canaries", "no canary"]
    assert logs[0]["error"] == "PermissionError: not yours"
    store.says["ranker"] = CANARY
    with capture_logs() as logs:
        await watch.look()
    assert [entry["event"] for entry in logs] == ["the store tells of canaries again", "canary"]
    assert "ranker" in tracks.running


async def test_a_store_that_was_never_read_has_no_canary(make: Callable[..., Made]) -> None:
    watch, tracks, store, notes, _ = make()
    store.says["ranker"] = OSError("unreachable")
    await watch.look()
    assert not tracks.running
    assert notes.unreads == ["ranker"]


async def test_a_store_that_hangs_is_read_once_and_ends_a_canary_too(
    make: Callable[..., Made], eventually: Any
) -> None:
    watch, tracks, store, notes, clock = make(poll_s=0.02, keep_s=5.0)
    store.says["ranker"] = store.says["retrieval"] = CANARY
    await watch.look()
    assert set(tracks.running) == {"ranker", "retrieval"}
    store.gate.clear()
    reads = store.reads
    clock.now += 4
    await watch.look()
    assert "ranker" in tracks.running
    clock.now += 1
    await watch.look()
    assert set(tracks.running) == {"retrieval"}
    assert store.reads == reads + 1
    assert notes.unreads == ["ranker", "ranker"]
    store.gate.set()
    await watch.look()  # the answer that was waited for
    await eventually(lambda: "ranker" in tracks.running or store.reads > reads + 1)
    await watch.look()
    assert set(tracks.running) == {"ranker", "retrieval"}
    await watch.aclose()
