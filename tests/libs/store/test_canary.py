"""Whatever happens in between, nobody is sent to a canary that no replica holds, and what is stable serves."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.store import ModelStore, canary
from cascade.store.canary import Canary
from cascade.store.errors import (
    BundleCorrupt,
    BundleNotFound,
    CanaryRefused,
    CanaryRuns,
    CanaryUnreadable,
    NoCanary,
    StoreError,
)
from cascade.store.release import promote, retention


def write(store: ModelStore, content: str) -> str:
    def fill(folder: Path) -> None:
        (folder / "model.bin").write_text(content)

    return store.write("ranker", fill, training_days=[date(2026, 1, 5)]).version


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    root = str(tmp_path / "models") if request.param == "local" else f"memory://{tmp_path.name}-{id(request)}"
    return ModelStore(root, cache=tmp_path / "cache")


@pytest.fixture
def two(store: ModelStore) -> tuple[str, str]:
    """Two versions, the first of them stable."""
    first, second = write(store, "a"), write(store, "b")
    promote(store, "ranker", first)
    return first, second


def at(seconds: float) -> canary.Clock:
    return lambda: seconds


def test_there_is_none_until_one_is_started(store: ModelStore, two: tuple[str, str]) -> None:
    assert canary.read(store, "ranker") is None
    assert canary.read(store, "retrieval") is None

    started = canary.start(store, "ranker", two[1], 1, at(100.0))
    assert started == Canary(two[1], 1.0, 0, "running", "", 100.0, 100.0)
    assert canary.read(store, "ranker") == started
    assert started.runs
    assert store.aliases("ranker") == {"canary": two[1], "stable": two[0]}
    assert canary.read(store, "retrieval") is None


def test_it_grows_step_by_step_and_never_shrinks(store: ModelStore, two: tuple[str, str]) -> None:
    canary.start(store, "ranker", two[1], 1, at(100.0))
    assert canary.advance(store, "ranker", 5, at(160.0)) == Canary(two[1], 5.0, 1, "running", "", 100.0, 160.0)
    assert canary.advance(store, "ranker", 25.5, at(220.0)).step == 2
    with pytest.raises(CanaryRefused, match=r"25\.5 % of users; it does not shrink to 5 %"):
        canary.advance(store, "ranker", 5)
    assert canary.read(store, "ranker") == Canary(two[1], 25.5, 2, "running", "", 100.0, 220.0)


def test_aborted_it_has_no_users_no_alias_and_a_reason(store: ModelStore, two: tuple[str, str]) -> None:
    canary.start(store, "ranker", two[1], 5, at(100.0))
    canary.advance(store, "ranker", 25, at(160.0))

    aborted = canary.abort(store, "ranker", "p99 41 ms against 12 ms", at(170.0))
    assert aborted == Canary(two[1], 0.0, 1, "aborted", "p99 41 ms against 12 ms", 100.0, 170.0)
    assert canary.read(store, "ranker") == aborted
    assert not aborted.runs
    assert store.aliases("ranker") == {"stable": two[0]}
    assert canary.abort(store, "ranker", "another", at(180.0)) == aborted
    with pytest.raises(NoCanary, match="was aborted"):
        canary.advance(store, "ranker", 50)
    with pytest.raises(NoCanary, match="was aborted"):
        canary.promote(store, "ranker")


def test_promoted_it_is_what_is_stable(store: ModelStore, two: tuple[str, str]) -> None:
    canary.start(store, "ranker", two[1], 100, at(100.0))

    release = canary.promote(store, "ranker", at(200.0))
    assert (release.stable, release.previous, release.changed) == (two[1], two[0], True)
    assert store.aliases("ranker") == {"previous": two[0], "stable": two[1]}
    assert canary.read(store, "ranker") == Canary(two[1], 0.0, 0, "promoted", "", 100.0, 200.0)
    assert canary.promote(store, "ranker") == release.__class__("ranker", two[1], two[0], changed=False)
    with pytest.raises(NoCanary, match="was promoted"):
        canary.abort(store, "ranker", "too late")


def test_the_next_one_starts_where_the_last_has_ended(store: ModelStore, two: tuple[str, str]) -> None:
    canary.start(store, "ranker", two[1], 5)
    with pytest.raises(CanaryRuns, match=f"{two[1]} is the canary of 'ranker' for 5 % of users"):
        canary.start(store, "ranker", two[1], 1)
    canary.abort(store, "ranker", "worse")
    assert canary.start(store, "ranker", two[1], 1, at(300.0)).started == 300.0


def test_what_replicas_hold_already_can_be_started(store: ModelStore, two: tuple[str, str]) -> None:
    store.set_alias("ranker", "canary", two[1])
    assert canary.start(store, "ranker", "canary", 1).version == two[1]


@pytest.mark.parametrize("percent", [0, -1, 100.5, float("nan"), float("inf")])
def test_a_share_that_is_none_is_refused(store: ModelStore, two: tuple[str, str], percent: float) -> None:
    with pytest.raises(CanaryRefused, match=f"{percent:g} % of users: give more than 0 and at most 100"):
        canary.start(store, "ranker", two[1], percent)
    assert canary.read(store, "ranker") is None
    assert store.alias("ranker", "canary") is None


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    first, harmed = write(store, "a"), write(store, "b")
    with pytest.raises(CanaryRefused, match=f"promote {first} instead"):
        canary.start(store, "ranker", first, 1)
    promote(store, "ranker", first)
    with pytest.raises(CanaryRefused, match="stable version of 'ranker' already"):
        canary.start(store, "ranker", first, 1)
    with pytest.raises(CanaryRefused, match="'gateway' has no canary; these have: retrieval, ranker"):
        canary.start(store, "gateway", first, 1)
    with pytest.raises(BundleNotFound):
        canary.start(store, "ranker", "20250101-none", 1)
    (tmp_path / "ranker" / harmed / "model.bin").write_text("")
    with pytest.raises(BundleCorrupt):
        canary.start(store, "ranker", harmed, 1)
    for what in (lambda: canary.advance(store, "ranker", 5), lambda: canary.promote(store, "ranker")):
        with pytest.raises(NoCanary, match="no canary of 'ranker' runs: start one"):
            what()
    with pytest.raises(NoCanary):
        canary.abort(store, "ranker", "none")
    assert store.aliases("ranker") == {"stable": first}


def test_a_file_that_tells_of_no_canary_says_so(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    first, second = write(store, "a"), write(store, "b")
    promote(store, "ranker", first)
    canary.start(store, "ranker", second, 5)
    path = tmp_path / "ranker" / "canary.json"
    whole = json.loads(path.read_text())
    for content in ("{", "[]", json.dumps(whole | {"state": "resting"}), json.dumps(whole | {"percent": 250})):
        path.write_text(content)
        with pytest.raises(CanaryUnreadable, match="remove the file, and start it again"):
            canary.read(store, "ranker")
    path.write_text(json.dumps(whole | {"said by a newer release": 1}))
    assert canary.read(store, "ranker") is not None
    path.unlink()
    assert canary.start(store, "ranker", second, 5).runs


def test_a_canary_is_kept_by_retention_and_its_file_is_no_version(store: ModelStore, two: tuple[str, str]) -> None:
    canary.start(store, "ranker", two[1], 5)
    assert store.versions("ranker") == sorted(two)
    assert retention(store, "ranker", 1) == []
    assert store.bundle("ranker", "canary").version == two[1]


class Crash(Exception):
    pass


class Crashing(ModelStore):
    """Dies before the change number `at` of aliases and notes (from 0); None: never."""

    at: int | None = None

    def _change(self) -> None:
        if self.at == 0:
            self.at = None
            raise Crash
        if self.at is not None:
            self.at -= 1

    def set_alias(self, service: str, alias: str, version: str) -> None:
        self._change()
        super().set_alias(service, alias, version)

    def remove_alias(self, service: str, alias: str) -> None:
        self._change()
        super().remove_alias(service, alias)

    def set_note(self, service: str, name: str, content: bytes) -> None:
        self._change()
        super().set_note(service, name, content)


@pytest.mark.parametrize("at", [0, 1])
def test_an_abort_that_died_is_finished_by_aborting_again(tmp_path: Path, at: int) -> None:
    store = Crashing(tmp_path)
    first, second = write(store, "a"), write(store, "b")
    promote(store, "ranker", first)
    canary.start(store, "ranker", second, 5)
    store.at = at
    with pytest.raises(Crash):
        canary.abort(store, "ranker", "worse")
    assert canary.abort(store, "ranker", "worse").reason == "worse"
    assert store.aliases("ranker") == {"stable": first}


@pytest.mark.parametrize("at", range(4))
def test_a_promotion_that_died_is_finished_by_promoting_again(tmp_path: Path, at: int) -> None:
    store = Crashing(tmp_path)
    first, second = write(store, "a"), write(store, "b")
    promote(store, "ranker", first)
    canary.start(store, "ranker", second, 5)
    store.at = at
    with pytest.raises(Crash):
        canary.promote(store, "ranker")
    canary.promote(store, "ranker")
    assert store.aliases("ranker") == {"previous": first, "stable": second}
    ended = canary.read(store, "ranker")
    assert ended is not None
    assert (ended.state, ended.percent) == ("promoted", 0.0)


steps = st.lists(
    st.tuples(
        st.sampled_from(["start", "advance", "abort", "promote"]),
        st.integers(0, 2),
        st.sampled_from([None, None, 0, 1, 2, 3]),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=50)
@given(steps)
def test_after_any_steps_and_crashes_users_are_sent_only_where_an_alias_is(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int | None]]
) -> None:
    store = Crashing(tmp_path_factory.mktemp("models"))
    versions = [write(store, str(number)) for number in range(3)]
    promote(store, "ranker", versions[0])
    for step, number, crash_at in steps:
        store.at = crash_at
        try:
            if step == "start":
                canary.start(store, "ranker", versions[number], 5)
            elif step == "advance":
                canary.advance(store, "ranker", 50)
            elif step == "abort":
                canary.abort(store, "ranker", "worse")
            else:
                canary.promote(store, "ranker")
        except (Crash, StoreError):
            pass
        store.at = None
        told, aliases = canary.read(store, "ranker"), store.aliases("ranker")
        if told is not None and told.percent > 0:
            assert told.runs
            assert aliases["canary"] == told.version
        for alias in aliases:
            store.bundle("ranker", alias)
