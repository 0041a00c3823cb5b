"""The store holds what it is given, refuses what was altered, and replaces aliases whole."""

from __future__ import annotations

import json
import threading
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.store import ModelStore
from cascade.store.bundles import MANIFEST
from cascade.store.errors import BundleCorrupt, BundleNotFound, BundleTooNew, InvalidName

DAYS = [date(2026, 1, 5), date(2026, 1, 6)]


def fill(content: str = "weights"):
    def write(folder: Path) -> None:
        (folder / "model.bin").write_text(content)
        (folder / "tables").mkdir()
        (folder / "tables" / "ids.json").write_text("[1]")

    return write


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    root = str(tmp_path / "models") if request.param == "local" else f"memory://{tmp_path.name}-{id(request)}"
    return ModelStore(root, cache=tmp_path / "cache")


def test_written_bundle_reads_back_whole(store: ModelStore) -> None:
    bundle = store.write("ranker", fill(), training_days=DAYS, lineage={"a": "b"}, metrics={"auc": 0.7})

    again = store.bundle("ranker", bundle.version)

    assert (again.path / "tables" / "ids.json").read_text() == "[1]"
    assert again.manifest.lineage == {"a": "b"}
    assert again.manifest.metrics == {"auc": 0.7}
    assert again.manifest.training_days == DAYS
    assert bundle.version.startswith("20260106-")
    assert set(again.manifest.files) == {"model.bin", "tables/ids.json"}


def test_same_content_is_the_same_version(store: ModelStore) -> None:
    first = store.write("ranker", fill(), training_days=DAYS)
    second = store.write("ranker", fill(), training_days=DAYS)
    other = store.write("ranker", fill("else"), training_days=DAYS)

    assert first.version == second.version
    assert first.manifest.created == second.manifest.created
    assert store.versions("ranker") == sorted([first.version, other.version])


def test_alias_names_a_version_until_it_is_moved_or_removed(store: ModelStore) -> None:
    first = store.write("ranker", fill(), training_days=DAYS)
    other = store.write("ranker", fill("else"), training_days=DAYS)

    assert store.alias("ranker", "stable") is None
    store.set_alias("ranker", "stable", first.version)
    store.set_alias("ranker", "canary", other.version)
    assert store.bundle("ranker", "stable").version == first.version
    store.set_alias("ranker", "stable", other.version)
    assert store.aliases("ranker") == {"stable": other.version, "canary": other.version}
    store.remove_alias("ranker", "canary")
    assert store.aliases("ranker") == {"stable": other.version}


def test_missing_version_names_those_that_exist(store: ModelStore) -> None:
    there = store.write("ranker", fill(), training_days=DAYS)

    with pytest.raises(BundleNotFound, match=there.version):
        store.bundle("ranker", "20250101-nothing")
    with pytest.raises(BundleNotFound, match="'stable'"):
        store.bundle("ranker", "stable")
    with pytest.raises(BundleNotFound):
        store.set_alias("ranker", "stable", "20250101-nothing")


@pytest.mark.parametrize("harm", ["altered", "missing", "unexpected"])
def test_harmed_bundle_is_refused_and_the_fault_named(tmp_path: Path, harm: str) -> None:
    store = ModelStore(tmp_path)
    bundle = store.write("ranker", fill(), training_days=DAYS)
    if harm == "altered":
        (bundle.path / "model.bin").write_text("weightz")
    elif harm == "missing":
        (bundle.path / "model.bin").unlink()
    else:
        (bundle.path / "extra.bin").write_text("?")

    with pytest.raises(BundleCorrupt, match=f"{harm} (model|extra).bin"):
        store.bundle("ranker", bundle.version)


def test_truncated_manifest_is_refused(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    bundle = store.write("ranker", fill(), training_days=DAYS)
    manifest = bundle.path / MANIFEST
    manifest.write_text(manifest.read_text()[:40])

    with pytest.raises(BundleCorrupt, match="not a manifest"):
        store.bundle("ranker", bundle.version)


def test_newer_format_is_refused(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    bundle = store.write("ranker", fill(), training_days=DAYS)
    manifest = bundle.path / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))

    with pytest.raises(BundleTooNew, match="format 99"):
        store.bundle("ranker", bundle.version)


def test_renamed_version_is_refused(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    bundle = store.write("ranker", fill(), training_days=DAYS)
    bundle.path.rename(bundle.path.with_name("20260107-feedfeedfeed"))

    with pytest.raises(BundleCorrupt, match="moved or renamed"):
        store.bundle("ranker", "20260107-feedfeedfeed")


def test_failed_write_leaves_nothing(store: ModelStore) -> None:
    def broken(folder: Path) -> None:
        (folder / "half.bin").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.write("ranker", broken, training_days=DAYS)
    assert store.versions("ranker") == []


def test_altered_copy_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    store = ModelStore(f"memory://refetch-{tmp_path.name}", cache=tmp_path / "cache")
    bundle = store.write("ranker", fill(), training_days=DAYS)
    (bundle.path / "model.bin").write_text("harmed on this disk only")

    assert (store.bundle("ranker", bundle.version).path / "model.bin").read_text() == "weights"


@given(st.text(min_size=1, max_size=80))
def test_no_name_leaves_its_folder(name: str) -> None:
    store = ModelStore("memory://names")
    try:
        store.alias(name, "stable")
    except InvalidName:
        return
    assert not set(name) & set("/\\")
    assert not name.startswith(".")


def test_reader_never_meets_a_half_written_alias(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    versions = [store.write("ranker", fill(text), training_days=DAYS).version for text in ("a", "b")]
    store.set_alias("ranker", "stable", versions[0])
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            for version in versions:
                store.set_alias("ranker", "stable", version)

    writer = threading.Thread(target=flip)
    writer.start()
    try:
        assert {store.alias("ranker", "stable") for _ in range(500)} <= set(versions)
        assert set(store.aliases("ranker")) == {"stable"}
    finally:
        stop.set()
        writer.join()
