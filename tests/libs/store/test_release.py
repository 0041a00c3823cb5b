"""Whatever happens in between, the aliases leave a store that serves."""

from __future__ import annotations

import json
import threading
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.store import ModelStore, bundles
from cascade.store.errors import (
    BundleCorrupt,
    BundleNotFound,
    BundleTooNew,
    LineageMismatch,
    NothingBefore,
    VersionInUse,
)
from cascade.store.release import Release, promote, retention, rollback


def write(store: ModelStore, content: str, service: str = "ranker", day: int = 5) -> str:
    def fill(folder: Path) -> None:
        (folder / "model.bin").write_text(content)

    return store.write(service, fill, training_days=[date(2026, 1, day)]).version


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    root = str(tmp_path / "models") if request.param == "local" else f"memory://{tmp_path.name}-{id(request)}"
    return ModelStore(root, cache=tmp_path / "cache")


def test_promoting_remembers_what_served_before(store: ModelStore) -> None:
    first, second = write(store, "a"), write(store, "b")

    assert promote(store, "ranker", first) == Release("ranker", first, None, changed=True)
    assert promote(store, "ranker", second) == Release("ranker", second, first, changed=True)
    assert store.aliases("ranker") == {"previous": first, "stable": second}


def test_promoting_what_serves_already_keeps_the_way_back(store: ModelStore) -> None:
    first, second = write(store, "a"), write(store, "b")
    promote(store, "ranker", first)
    promote(store, "ranker", second)

    assert promote(store, "ranker", "stable") == Release("ranker", second, first, changed=False)
    assert store.aliases("ranker") == {"previous": first, "stable": second}


def test_an_alias_can_be_promoted(store: ModelStore) -> None:
    first, second = write(store, "a"), write(store, "b")
    promote(store, "ranker", first)
    store.set_alias("ranker", "canary", second)

    assert promote(store, "ranker", "canary").stable == second


def test_rolling_back_twice_undoes_it(store: ModelStore) -> None:
    first, second = write(store, "a"), write(store, "b")
    promote(store, "ranker", first)
    promote(store, "ranker", second)

    assert rollback(store, "ranker") == Release("ranker", first, second, changed=True)
    assert store.aliases("ranker") == {"previous": second, "stable": first}
    assert rollback(store, "ranker").stable == second


def test_without_a_version_before_there_is_no_rollback(store: ModelStore) -> None:
    with pytest.raises(NothingBefore, match="promote one of none"):
        rollback(store, "ranker")
    only = write(store, "a")
    promote(store, "ranker", only)
    with pytest.raises(NothingBefore, match=only):
        rollback(store, "ranker")
    assert store.aliases("ranker") == {"stable": only}


def test_no_alias_moves_to_a_harmed_or_unknown_version(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    good, harmed, newer = write(store, "a"), write(store, "b"), write(store, "c")
    promote(store, "ranker", good)
    (tmp_path / "ranker" / harmed / "model.bin").write_text("")
    manifest = tmp_path / "ranker" / newer / bundles.MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": bundles.FORMAT + 1}))

    for version, error in ((harmed, BundleCorrupt), (newer, BundleTooNew), ("20250101-none", BundleNotFound)):
        with pytest.raises(error):
            promote(store, "ranker", version)
    store.set_alias("ranker", "previous", harmed)
    with pytest.raises(BundleCorrupt):
        rollback(store, "ranker")
    assert store.alias("ranker", "stable") == good


def test_a_query_tower_of_another_lineage_is_not_promoted(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)

    def fill(source: str | None):
        def into(folder: Path) -> None:
            (folder / "query_tower").mkdir()
            (folder / "index").mkdir()
            (folder / "query_tower" / "config.json").write_text('{"config": {"candidate_fingerprint": "this one"}}')
            (folder / "index" / "index.json").write_text(json.dumps({"source": source}))

        return into

    own, foreign, unknown = (
        store.write("retrieval", fill(source), training_days=[]).version for source in ("this one", "another", None)
    )
    promote(store, "retrieval", own)
    for version in (foreign, unknown):
        with pytest.raises(LineageMismatch, match="bundle the two of one training"):
            promote(store, "retrieval", version)
    assert store.alias("retrieval", "stable") == own


class Crash(Exception):
    pass


class Crashing(ModelStore):
    """Dies at the alias write number `at` (from 0); None: never."""

    at: int | None = None

    def set_alias(self, service: str, alias: str, version: str) -> None:
        if self.at == 0:
            self.at = None
            raise Crash
        if self.at is not None:
            self.at -= 1
        super().set_alias(service, alias, version)


def test_a_promotion_that_died_is_done_by_promoting_again(tmp_path: Path) -> None:
    store = Crashing(tmp_path)
    first, second, third = (write(store, text) for text in "abc")
    promote(store, "ranker", first)
    promote(store, "ranker", second)
    store.at = 1
    with pytest.raises(Crash):
        promote(store, "ranker", third)
    assert store.alias("ranker", "stable") == second
    assert promote(store, "ranker", third) == Release("ranker", third, second, changed=True)


def test_a_rollback_that_died_between_its_writes_is_done(tmp_path: Path) -> None:
    store = Crashing(tmp_path)
    first, second = write(store, "a"), write(store, "b")
    promote(store, "ranker", first)
    promote(store, "ranker", second)
    store.at = 1
    with pytest.raises(Crash):
        rollback(store, "ranker")
    assert store.alias("ranker", "stable") == first
    with pytest.raises(NothingBefore):  # and not forth again to what was fled from
        rollback(store, "ranker")


steps = st.lists(
    st.tuples(
        st.sampled_from(["promote", "rollback", "retain"]), st.integers(0, 4), st.sampled_from([None, None, 0, 1])
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=50)
@given(steps)
def test_after_any_steps_and_crashes_what_the_aliases_name_is_whole(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int | None]]
) -> None:
    store = Crashing(tmp_path_factory.mktemp("models"))
    versions = [write(store, str(number)) for number in range(5)]
    promote(store, "ranker", versions[0])
    for step, number, crash_at in steps:
        store.at = crash_at
        try:
            if step == "promote":
                promote(store, "ranker", versions[number])
            elif step == "rollback":
                rollback(store, "ranker")
            else:
                retention(store, "ranker", number + 1)
        except (Crash, NothingBefore, BundleNotFound):
            pass
        store.at = None
        names = store.aliases("ranker")
        assert "stable" in names
        for alias in names:
            store.bundle("ranker", alias)


def test_retention_keeps_the_newest_and_all_that_are_named(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    versions = [write(store, str(number), day=28 - number) for number in range(7)]
    for number, version in enumerate(versions):  # made one after another, of days that run the other way
        manifest = tmp_path / "ranker" / version / bundles.MANIFEST
        made = {"created": f"2026-02-01T{number:02}:00:00Z"}
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | made))
    promote(store, "ranker", versions[0])
    promote(store, "ranker", versions[1])
    store.set_alias("ranker", "canary", versions[2])

    assert retention(store, "ranker", 2) == versions[3:5]
    assert store.versions("ranker") == sorted(versions[:3] + versions[5:])
    assert retention(store, "ranker", 2) == []
    assert rollback(store, "ranker").stable == versions[0]


def test_retention_leaves_what_it_cannot_read(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    versions = [write(store, str(number)) for number in range(3)]
    (tmp_path / "ranker" / versions[0] / bundles.MANIFEST).write_text("{")

    assert len(retention(store, "ranker", 1)) == 1
    assert versions[0] in store.versions("ranker")


def test_what_retention_removes_is_gone_from_any_store(store: ModelStore) -> None:
    versions = [write(store, str(number)) for number in range(3)]
    removed = retention(store, "ranker", 1)
    assert len(removed) == 2
    assert store.versions("ranker") == [version for version in versions if version not in removed]


def test_keeping_none_is_refused(store: ModelStore) -> None:
    with pytest.raises(ValueError, match="give 1 or more"):
        retention(store, "ranker", 0)


def test_a_named_version_cannot_be_removed(store: ModelStore) -> None:
    first = write(store, "a")
    promote(store, "ranker", first)

    with pytest.raises(VersionInUse, match="stable"):
        store.remove("ranker", first)
    with pytest.raises(BundleNotFound, match="is an alias"):
        store.remove("ranker", "stable")
    with pytest.raises(BundleNotFound):
        store.remove("ranker", "none-such")
    store.bundle("ranker", first)


def test_two_changes_at_once_come_one_after_the_other(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    versions = [write(store, str(number)) for number in range(2)]
    promote(store, "ranker", versions[0])
    entered, done = threading.Event(), threading.Event()

    def other() -> None:
        entered.set()
        promote(ModelStore(tmp_path), "ranker", versions[1])
        done.set()

    with store.changing("ranker"):
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait()
        assert not done.wait(0.2)
        assert store.alias("ranker", "stable") == versions[0]
    thread.join()
    assert store.alias("ranker", "stable") == versions[1]
