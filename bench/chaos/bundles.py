"""What can be wrong with the model store while it is followed: each bad bundle is refused, and the old one serves."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.chaos.scene import Row, Scene
from cascade.store import ModelStore
from cascade.store.bundles import MANIFEST

SERVICE = "ranker"
_SEEN_S = 15.0
_LIMIT_BYTES = 65_536

# A process that releases a new version on a disk that does not take it: `full` may write so many bytes a file, and
# `read-only` is a user who may not write there (root would be let through by any permissions).
_WRITER = f"""
import os, resource, sys
from bench.chaos.bundles import copy_of_stable
from cascade.store import ModelStore
root, how = sys.argv[1:]
if how == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, ({_LIMIT_BYTES}, {_LIMIT_BYTES}))
elif os.geteuid() == 0:
    os.setgid(65534), os.setuid(65534)
try:
    copy_of_stable(ModelStore(root), how)
except OSError as error:
    print("refused:", type(error).__name__, os.strerror(error.errno))
"""


def copy_of_stable(store: ModelStore, name: str) -> Path:
    """A new version like the stable one in all but its lineage; → its folder."""
    stable = store.bundle(SERVICE, "stable")

    def fill(folder: Path) -> None:
        for file in stable.manifest.files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stable.path / file, folder / file)

    lineage = {**stable.manifest.lineage, "made_to_be": f"{name}-{time.time_ns()}"}
    return store.write(SERVICE, fill, training_days=stable.manifest.training_days, lineage=lineage).path


def _largest(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def half_written(folder: Path) -> None:
    """Its writer died: some files are there, and the manifest, which is written last, is not."""
    (folder / MANIFEST).unlink()
    _largest(folder).unlink()


def truncated(folder: Path) -> None:
    """Half of its largest file is gone."""
    largest = _largest(folder)
    os.truncate(largest, largest.stat().st_size // 2)


def flipped(folder: Path) -> None:
    """One bit of its largest file is another."""
    largest = _largest(folder)
    with largest.open("r+b") as file:
        file.seek(largest.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def from_the_future(folder: Path) -> None:
    """Its format is one that this release does not know."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"format": manifest["format"] + 1}))


def refused(harm: Callable[[Path], None]) -> Callable[[Scene], Awaitable[None]]:
    """The alias names a new version that was harmed."""

    async def blow(scene: Scene) -> None:
        store, ranker = ModelStore(scene.fleet.settings.model_store_url), scene.fleet.members[SERVICE]
        serving = store.alias(SERVICE, "stable")
        assert serving is not None
        counted = "cascade_bundle_refused_total"
        before = await asyncio.to_thread(ranker.metric, counted)
        folder = await asyncio.to_thread(copy_of_stable, store, harm.__name__)
        harm(folder)
        alias = Path(scene.fleet.settings.model_store_url) / SERVICE / "aliases" / "stable"
        async with scene.broken():
            _point(alias, folder.name)  # whoever did this did not ask the store, which would have refused it too
            limit = time.monotonic() + _SEEN_S
            while await asyncio.to_thread(ranker.metric, counted) == before and time.monotonic() < limit:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            told = await asyncio.to_thread(ranker.metric, counted) - before
            await scene.pass_time(1 / 3)
            _point(alias, serving)
        serves = await asyncio.to_thread(
            ranker.metric, f'cascade_bundle_info{{service="{SERVICE}",track="stable",version="{serving}"'
        )
        scene.result.require(told >= 1, "no metric tells that it was refused")
        scene.result.require(serves == 1, "the version before does not serve")
        scene.result.told.append(f"cascade_bundle_refused_total +{told:.0f}")
        await scene.see_it_whole()

    return blow


def _point(alias: Path, version: str) -> None:
    beside = alias.with_name(".pointed")
    beside.write_text(version)
    beside.replace(alias)


def not_released(how: str) -> Callable[[Scene], Awaitable[None]]:
    """Somebody releases a version on a disk that does not take it."""

    async def blow(scene: Scene) -> None:
        root = scene.fleet.settings.model_store_url
        store = ModelStore(root)
        before = store.versions(SERVICE), store.alias(SERVICE, "stable")
        if how == "read-only":
            _read_only(Path(root), True)
        try:
            async with scene.broken():
                done = await asyncio.to_thread(
                    subprocess.run,
                    [sys.executable, "-c", _WRITER, root, how],
                    capture_output=True,
                    text=True,
                    timeout=120,
                )
                await scene.pass_time(1 / 3)
        finally:
            if how == "read-only":
                _read_only(Path(root), False)
        scene.result.told.append(done.stdout.strip() or done.stderr.strip()[-200:])
        scene.result.require(done.stdout.startswith("refused:"), "the release was not refused")
        scene.result.require(
            (store.versions(SERVICE), store.alias(SERVICE, "stable")) == before, "the store has changed"
        )
        left = list((Path(root) / ".staging").glob("*"))
        scene.result.require(not left, f"{len(left)} half-written folders are left")
        await scene.see_it_whole()

    return blow


def _read_only(root: Path, read_only: bool) -> None:
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        folder.chmod(0o555 if read_only else 0o755)
    for parent in list(root.parents)[:3]:  # the writer is another user where this one is root: let it in to read
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)


_MUST = "refused, old version serves, alert metric"

ROWS = (
    Row("bundle-half", "Bundle half-written", _MUST, refused(half_written), longest_s=20.0),
    Row("bundle-truncated", "Bundle truncated", _MUST, refused(truncated), longest_s=20.0),
    Row("bundle-flipped", "Bundle with one bit flipped", _MUST, refused(flipped), longest_s=20.0),
    Row("bundle-future", "Bundle from the future", _MUST, refused(from_the_future), longest_s=20.0),
    Row(
        "store-full",
        "Disk of the model store full",
        "release refused, old version serves",
        not_released("full"),
        longest_s=20.0,
    ),
    Row(
        "store-read-only",
        "Model store read-only",
        "release refused, old version serves",
        not_released("read-only"),
        longest_s=20.0,
    ),
)
