"""Stable and canary side by side: each request from the bundle it asks for, and from stable where that is not there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from cascade.serving.errors import ModelFault, UnknownItem
from cascade.serving.metrics import ServiceMetrics
from cascade.serving.reload import BundleHolder
from cascade.serving.settings import TrackSettings
from cascade.serving.track_metrics import BundleMetrics
from cascade.serving.tracks import Tracks, make_tracks
from cascade.store import ModelStore

Demo = Tracks[str, int, tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def metrics() -> ServiceMetrics:
    return ServiceMetrics("demo")


def publish(store: ModelStore, alias: str, text: str) -> str:
    def fill(folder: Path) -> None:
        (folder / "text").write_text(text)

    version = store.write("demo", fill, training_days=[date(2026, 1, 1)]).version
    store.set_alias("demo", alias, version)
    return version


class Answers:
    """Adds one to numbers; -1 is no item, -2 a defect. Canary batches wait for `gate`, where it is closed."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.threads: dict[str, set[int]] = {"stable": set(), "canary": set()}

    def of(self, holder: BundleHolder[str]) -> Callable[[Sequence[int]], list[tuple[int, str, str] | Exception]]:
        def compute(numbers: Sequence[int]) -> list[tuple[int, str, str] | Exception]:
            if holder.alias == "canary":
                self.waiting.set()
                assert self.gate.wait(60)
            loaded = holder.current
            self.threads[loaded.track].add(threading.get_ident())
            faults: dict[int, Exception] = {-1: UnknownItem("none"), -2: ModelFault("not a number")}
            return [faults.get(number) or (number + 1, loaded.value, loaded.track) for number in numbers]

        return compute


@asynccontextmanager
async def opened(store: ModelStore, metrics: ServiceMetrics, answers: Answers, **changes: Any) -> AsyncIterator[Demo]:
    tracks: Demo = make_tracks(
        "demo",
        TrackSettings(alias_poll_s=3600, **changes),
        store,
        lambda path: (path / "text").read_text(),
        lambda _text: None,
        answers.of,
        metrics,
        BundleMetrics(metrics),
    )
    await tracks.start()
    try:
        yield tracks
    finally:
        answers.gate.set()
        await tracks.aclose()


async def test_each_request_is_answered_by_the_track_it_asks_for(store: ModelStore, metrics: ServiceMetrics) -> None:
    answers = Answers()
    old, new = publish(store, "stable", "old"), publish(store, "canary", "new")
    async with opened(store, metrics, answers) as tracks:
        await tracks.refresh()
        assert tracks.versions() == {"stable": old, "canary": new}
        found = await asyncio.gather(*(tracks.answer(number, ("stable", "canary")[number % 2]) for number in range(20)))
        assert [one.value for one in found] == [
            (number + 1, ("old", "new")[number % 2], ("stable", "canary")[number % 2]) for number in range(20)
        ]
        store.remove_alias("demo", "canary")
        beside = answers.threads["stable"].copy()
        await tracks.refresh()
        assert (await tracks.answer(1)).value == (2, "old", "stable")
    assert answers.threads["canary"].isdisjoint({threading.get_ident(), *beside})
    assert len(beside) == len(answers.threads["canary"]) == 1
    assert answers.threads["stable"] - beside == {threading.get_ident()}  # alone again, in the event loop


async def test_without_a_canary_stable_answers_and_nothing_is_counted(
    store: ModelStore, metrics: ServiceMetrics
) -> None:
    version = publish(store, "stable", "old")
    async with opened(store, metrics, Answers()) as tracks:
        assert tracks.versions() == {"stable": version}
        assert (await tracks.answer(1, "canary")).value == (2, "old", "stable")
        assert await tracks.refresh() == {"demo": {"version": version, "changed": False, "refused": None}}
    assert "cascade_bundle_requests_total{" not in metrics.exposition().decode()


async def test_a_vanished_alias_leaves_stable_to_answer_even_what_waited(
    store: ModelStore, metrics: ServiceMetrics
) -> None:
    answers = Answers()
    publish(store, "stable", "old")
    new = publish(store, "canary", "new")
    async with opened(store, metrics, answers) as tracks:
        told = await tracks.refresh()
        assert told["demo"]["canary"]["version"] == new  # type: ignore[index]
        answers.gate.clear()
        waiting = asyncio.create_task(tracks.answer(1, "canary"))
        await asyncio.to_thread(answers.waiting.wait)
        store.remove_alias("demo", "canary")
        assert (await tracks.refresh())["demo"]["canary"] == {"version": None, "changed": True, "refused": None}
        answers.gate.set()
        assert (await waiting).value == (2, "old", "stable")
        assert list(tracks.versions()) == ["stable"]


async def test_a_canary_that_hangs_keeps_no_stable_request_waiting(store: ModelStore, metrics: ServiceMetrics) -> None:
    answers = Answers()
    publish(store, "stable", "old")
    publish(store, "canary", "new")
    async with opened(store, metrics, answers, batch_max_size=1) as tracks:
        await tracks.refresh()
        answers.gate.clear()
        hanging = [asyncio.create_task(tracks.answer(number, "canary")) for number in range(5)]
        await asyncio.to_thread(answers.waiting.wait)
        assert [(await tracks.answer(number)).value[0] for number in range(5)] == [1, 2, 3, 4, 5]
        assert not any(task.done() for task in hanging)
        depth = metrics.registry.get_sample_value("cascade_queue_depth", {"service": "demo"})
        assert depth == len(hanging) - 1  # one is computed; both queues add up
        answers.gate.set()
        assert {(await task).value[2] for task in hanging} == {"canary"}
    assert metrics.registry.get_sample_value("cascade_queue_depth", {"service": "demo"}) == 0


async def test_a_refused_canary_leaves_stable_ready_and_is_told(store: ModelStore, metrics: ServiceMetrics) -> None:
    old, bad = publish(store, "stable", "old"), publish(store, "canary", "bad")
    (Path(store.bundle("demo", bad).path) / "text").write_text("harmed")
    async with opened(store, metrics, Answers()) as tracks:
        told = await tracks.refresh()
        assert "BundleCorrupt" in told["demo"]["canary"]["refused"]  # type: ignore[index]
        assert tracks.not_ready() is None
        assert tracks.versions() == {"stable": old}
        assert (await tracks.answer(1, "canary")).value == (2, "old", "stable")
    refused = metrics.registry.get_sample_value("cascade_bundle_refused_total", {"service": "demo"})
    assert refused is not None
    assert refused >= 1


async def test_a_canary_alone_makes_no_service_ready(store: ModelStore, metrics: ServiceMetrics) -> None:
    publish(store, "canary", "new")
    async with opened(store, metrics, Answers()) as tracks:
        await tracks.refresh()
        assert tracks.not_ready() == "the model store has no stable bundle of demo yet"


async def test_outcomes_are_counted_by_track_while_there_is_a_canary(
    store: ModelStore, metrics: ServiceMetrics
) -> None:
    answers = Answers()
    old, new = publish(store, "stable", "old"), publish(store, "canary", "new")
    async with opened(store, metrics, answers, queue_bound=1, batch_max_size=1) as tracks:
        await tracks.refresh()
        await tracks.answer(1)
        with pytest.raises(UnknownItem):
            await tracks.answer(-1)
        with pytest.raises(ModelFault):
            await tracks.answer(-2, "canary")
        answers.gate.clear()
        answers.waiting.clear()
        first = asyncio.create_task(tracks.answer(1, "canary"))
        await asyncio.to_thread(answers.waiting.wait)
        others = [asyncio.create_task(tracks.answer(1, "canary")) for _ in range(3)]
        await asyncio.sleep(0)
        answers.gate.set()
        got = await asyncio.gather(first, *others, return_exceptions=True)
        assert [type(one).__name__ for one in got] == ["Batched", "Batched", "QueueFull", "QueueFull"]

    def count(track: str, version: str, outcome: str) -> float | None:
        labels = {"service": "demo", "track": track, "version": version, "outcome": outcome}
        return metrics.registry.get_sample_value("cascade_bundle_requests_total", labels)

    assert [count("stable", old, outcome) for outcome in ("ok", "error", "refused")] == [2, 0, 0]
    assert [count("canary", new, outcome) for outcome in ("ok", "error", "refused")] == [2, 1, 2]


async def test_a_service_that_follows_another_alias_has_that_one_alone(
    store: ModelStore, metrics: ServiceMetrics
) -> None:
    publish(store, "stable", "old")
    new = publish(store, "canary", "new")
    async with opened(store, metrics, Answers(), alias="canary") as tracks:
        assert tracks.versions() == {"canary": new}
        assert (await tracks.answer(1)).value == (2, "new", "canary")


async def test_both_may_compute_in_the_event_loop(store: ModelStore, metrics: ServiceMetrics) -> None:
    answers = Answers()
    publish(store, "stable", "old")
    publish(store, "canary", "new")
    async with opened(store, metrics, answers, canary_in_thread=False) as tracks:
        await tracks.refresh()
        assert [(await tracks.answer(1, track)).value[2] for track in ("stable", "canary")] == ["stable", "canary"]
    assert answers.threads == {"stable": {threading.get_ident()}, "canary": {threading.get_ident()}}
