from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cascade.serving.errors import NotReady
from cascade.serving.metrics import ServiceMetrics
from cascade.serving.reload import BundleHolder
from cascade.store import ModelStore


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def publish(store: ModelStore, text: str, day: int) -> str:
    def fill(folder: Path) -> None:
        (folder / "text").write_text(text)

    version = store.write("demo", fill, training_days=[date(2026, 1, day)]).version
    store.set_alias("demo", "stable", version)
    return version


def load(path: Path) -> str:
    text = (path / "text").read_text()
    if text == "broken":
        raise ValueError("cannot load this")
    return text


def warm_up(text: str) -> None:
    if text == "cold":
        raise RuntimeError("does not run")


def holder(store: ModelStore, metrics: ServiceMetrics | None = None, poll_s: float = 0.01) -> BundleHolder[str]:
    return BundleHolder(store, "demo", "stable", load, warm_up, poll_s=poll_s, metrics=metrics)


async def test_a_service_without_a_bundle_is_up_and_loads_the_first_that_comes(
    store: ModelStore, eventually: Any
) -> None:
    holding = holder(store)
    await holding.start()
    assert holding.not_ready() == "the model store has no stable bundle of demo yet"
    assert holding.versions() == {}
    with pytest.raises(NotReady, match="no stable bundle of demo"):
        _ = holding.current
    version = publish(store, "first", 1)
    await eventually(lambda: holding.version == version)
    assert holding.current.value == "first"
    assert holding.not_ready() is None
    assert holding.versions() == {"stable": version}
    await holding.aclose()


async def test_a_new_version_is_swapped_in_and_work_in_flight_keeps_the_old(store: ModelStore, eventually: Any) -> None:
    metrics = ServiceMetrics("demo")
    holding = holder(store, metrics)
    old = publish(store, "old", 1)
    await holding.start()
    in_flight = holding.current
    new = publish(store, "new", 2)
    await eventually(lambda: holding.version == new)
    assert (in_flight.version, in_flight.value) == (old, "old")
    assert holding.current.value == "new"

    def info(version: str) -> float | None:
        labels = {"service": "demo", "version": version, "track": "stable"}
        return metrics.registry.get_sample_value("cascade_bundle_info", labels)

    assert (info(old), info(new)) == (None, 1)
    store.set_alias("demo", "stable", old)  # rolling back is the same step
    await eventually(lambda: holding.version == old)
    await holding.aclose()


@pytest.mark.parametrize("harm", ["broken", "cold", "altered"])
async def test_a_refused_version_leaves_the_old_one_serving(store: ModelStore, tmp_path: Path, harm: str) -> None:
    metrics = ServiceMetrics("demo")
    holding = holder(store, metrics, poll_s=3600)
    good = publish(store, "good", 1)
    assert await holding.refresh()
    bad = publish(store, harm, 2)
    if harm == "altered":
        (tmp_path / "models" / "demo" / bad / "text").write_text("something else")
    with capture_logs() as logs:
        assert not await holding.refresh()
        assert not await holding.refresh()  # not hashed again before its time
    assert [entry["event"] for entry in logs] == ["bundle refused; the version before goes on serving"]
    assert (logs[0]["version"], logs[0]["serving"]) == (bad, good)
    assert holding.version == good
    assert metrics.registry.get_sample_value("cascade_bundle_refused_total", {"service": "demo"}) == 1
    better = publish(store, "better", 3)
    assert await holding.refresh()  # at once, though the refused one still waits
    assert holding.version == better


async def test_a_refused_version_is_tried_again_later(store: ModelStore, tmp_path: Path, eventually: Any) -> None:
    version = publish(store, "good", 1)
    file = tmp_path / "models" / "demo" / version / "text"
    file.write_text("harmed")
    metrics = ServiceMetrics("demo")
    holding = holder(store, metrics)
    with capture_logs() as logs:
        await holding.start()
        assert holding.not_ready() == f"bundle {version} was refused and there is no other"
        refused = "cascade_bundle_refused_total"
        await eventually(lambda: (metrics.registry.get_sample_value(refused, {"service": "demo"}) or 0) >= 2)
        file.write_text("good")  # restored
        await eventually(lambda: holding.version == version)
    assert sum("refused" in entry["event"] for entry in logs) == 1
    await holding.aclose()


async def test_an_alias_to_nowhere_and_an_unreadable_store_are_told_once(store: ModelStore) -> None:
    class Unreadable(ModelStore):
        def alias(self, service: str, alias: str) -> str | None:
            raise PermissionError("not yours")

    metrics = ServiceMetrics("demo")

    for holding, told in (
        (holder(store, metrics=metrics), "the alias names a bundle that is not there"),
        (holder(Unreadable("memory://x")), "cannot read the alias"),
    ):
        aliases = Path(str(store._root)) / "demo" / "aliases"
        aliases.mkdir(parents=True, exist_ok=True)
        (aliases / "stable").write_text("20260101-gone")
        with capture_logs() as logs:
            assert not await holding.refresh()
            assert not await holding.refresh()
        assert [entry["event"] for entry in logs] == [told]
    refused = metrics.registry.get_sample_value("cascade_bundle_refused_total", {"service": "demo"})
    assert refused == 1, "half a bundle, whose manifest is missing, is told by the metric too"


class Weights:
    """Something that can be watched going."""


async def test_the_old_version_leaves_memory_once_nothing_works_on_it(store: ModelStore) -> None:
    def fresh(_folder: Path) -> Weights:
        return Weights()

    holding = BundleHolder(store, "demo", "stable", fresh, poll_s=3600)
    publish(store, "old", 1)
    await holding.refresh()
    old = weakref.ref(holding.current.value)
    in_flight = holding.current
    publish(store, "new", 2)
    gc.disable()  # what is freed is freed at once, and not when the collector comes by
    try:
        assert await holding.refresh()
        assert old() is in_flight.value
        del in_flight
        assert old() is None
    finally:
        gc.enable()


async def test_a_refused_version_leaves_memory(store: ModelStore) -> None:
    tried: list[weakref.ref[Weights]] = []

    def fresh(_folder: Path) -> Weights:
        weights = Weights()
        tried.append(weakref.ref(weights))
        return weights

    def reject(_weights: Weights) -> None:
        raise RuntimeError("does not run")

    holding = BundleHolder(store, "demo", "stable", fresh, reject, poll_s=3600)
    publish(store, "bad", 1)
    assert not await holding.refresh()
    gc.collect()
    assert [one() for one in tried] == [None]


async def test_where_the_heap_is_frozen_a_new_bundle_is_frozen_too(store: ModelStore) -> None:
    holding = holder(store, poll_s=3600)
    publish(store, "first", 1)
    await holding.refresh()
    assert gc.get_freeze_count() == 0
    gc.freeze()
    try:
        before = gc.get_freeze_count()
        kept = [[number] for number in range(1000)]
        publish(store, "second", 2)
        await holding.refresh()
        assert gc.get_freeze_count() >= before + len(kept)
    finally:
        gc.unfreeze()


async def test_told_to_look_again_it_tries_a_refused_version_at_once(store: ModelStore, tmp_path: Path) -> None:
    holding = holder(store, poll_s=3600)
    version = publish(store, "good", 1)
    file = tmp_path / "models" / "demo" / version / "text"
    file.write_text("harmed")
    assert not await holding.refresh()
    assert holding.refused is not None
    assert holding.refused.startswith(f"{version}: BundleCorrupt: ")
    file.write_text("good")  # restored
    assert not await holding.refresh()
    assert await holding.refresh(again=True)
    assert holding.refused is None


async def test_closing_twice_or_unstarted_is_harmless(store: ModelStore) -> None:
    holding = holder(store)
    await holding.aclose()
    await holding.start()
    await holding.aclose()
    await holding.aclose()


def canary(
    store: ModelStore, metrics: ServiceMetrics | None = None, poll_s: float = 3600, beside: Any = None
) -> BundleHolder[str]:
    return BundleHolder(
        store, "demo", "canary", load, warm_up, poll_s=poll_s, metrics=metrics, passing=True, beside=beside
    )


async def test_a_passing_bundle_comes_and_goes_with_its_alias(store: ModelStore, eventually: Any) -> None:
    metrics = ServiceMetrics("demo")
    holding = canary(store, metrics, poll_s=0.01)
    await holding.start()
    assert holding.version is None
    version = publish(store, "tried", 1)
    store.set_alias("demo", "canary", version)
    await eventually(lambda: holding.version == version)
    assert holding.versions() == {"canary": version}
    info = {"service": "demo", "version": version, "track": "canary"}
    assert metrics.registry.get_sample_value("cascade_bundle_info", info) == 1
    store.remove_alias("demo", "canary")
    await eventually(lambda: holding.version is None)
    assert metrics.registry.get_sample_value("cascade_bundle_info", info) is None
    with pytest.raises(NotReady):
        _ = holding.current
    await holding.aclose()


async def test_nobody_waits_for_a_passing_bundle(store: ModelStore, eventually: Any) -> None:
    started, go = threading.Event(), threading.Event()

    def slow(path: Path) -> str:
        started.set()
        assert go.wait(60)
        return load(path)

    version = publish(store, "tried", 1)
    store.set_alias("demo", "canary", version)
    holding = BundleHolder(store, "demo", "canary", slow, poll_s=0.01, passing=True)
    await holding.start()
    assert holding.version is None
    await asyncio.to_thread(started.wait)
    go.set()
    await eventually(lambda: holding.version == version)
    await holding.aclose()


async def test_a_passing_bundle_is_never_one_that_its_alias_does_not_name(store: ModelStore) -> None:
    holding = canary(store)
    first = publish(store, "tried", 1)
    store.set_alias("demo", "canary", first)
    assert await holding.refresh()
    bad = publish(store, "broken", 2)
    store.set_alias("demo", "canary", bad)
    assert await holding.refresh()  # what it had is gone, though the other is refused
    assert holding.version is None
    assert holding.refused == f"{bad}: ValueError: cannot load this"
    store.remove_alias("demo", "canary")
    assert not await holding.refresh()
    assert holding.refused is None


async def test_an_unreadable_store_takes_no_passing_bundle_away(store: ModelStore) -> None:
    holding = canary(store)
    version = publish(store, "tried", 1)
    store.set_alias("demo", "canary", version)
    await holding.refresh()

    def unreadable(_service: str, _alias: str) -> str | None:
        raise PermissionError("not yours")

    store.alias = unreadable  # type: ignore[method-assign]
    assert not await holding.refresh()
    assert holding.version == version


async def test_a_passing_bundle_leaves_memory_when_its_alias_goes(store: ModelStore) -> None:
    holding = BundleHolder(store, "demo", "canary", lambda _: Weights(), poll_s=3600, passing=True)
    store.set_alias("demo", "canary", publish(store, "tried", 1))
    await holding.refresh()
    loaded = weakref.ref(holding.current.value)
    store.remove_alias("demo", "canary")
    gc.disable()
    try:
        assert await holding.refresh()
        assert loaded() is None
    finally:
        gc.enable()


async def test_what_the_holder_beside_has_loaded_is_shared(store: ModelStore) -> None:
    passing = canary(store)
    loads: list[Path] = []

    def counted(path: Path) -> str:
        loads.append(path)
        return load(path)

    holding = BundleHolder(store, "demo", "stable", counted, poll_s=3600, beside=passing)
    publish(store, "first", 1)
    await holding.refresh()
    version = publish(store, "second", 2)
    store.set_alias("demo", "canary", version)
    await passing.refresh()
    assert await holding.refresh()
    assert (holding.current.version, holding.current.track) == (version, "stable")
    assert holding.current.value is passing.current.value
    assert len(loads) == 1
    store.remove_alias("demo", "canary")
    await passing.refresh()
    assert holding.current.value == "second"
