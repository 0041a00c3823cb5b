"""The store: `<root>/<service>/<version>/` holds bundles, `<root>/<service>/aliases/<alias>` names one of them.

The root is a folder or any fsspec URL (s3://, gs://, memory://). A version is immutable and exists once its manifest
does, which is written last. Aliases are small files replaced atomically. Remote bundles are copied once to a local
cache and verified there.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import fsspec

from cascade.files import replacing
from cascade.store.bundles import MANIFEST, Bundle, Manifest, content_version, file_hashes, read_manifest, verify
from cascade.store.errors import BundleCorrupt, BundleNotFound, InvalidName, VersionInUse

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ALIASES = "aliases"

STABLE, CANARY, PREVIOUS = "stable", "canary", "previous"


class ModelStore:
    """Bundles of all services below one root."""

    def __init__(self, root: str | Path, cache: Path | None = None) -> None:
        self._fs, path = fsspec.url_to_fs(str(root))
        self._root = path.rstrip("/")
        self._local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))
        self._cache = cache or Path(tempfile.gettempdir()) / "cascade-models"

    def write(
        self,
        service: str,
        fill: Callable[[Path], None],
        *,
        training_days: list[date],
        evaluation_days: list[date] | None = None,
        parent: str | None = None,
        lineage: dict[str, str] | None = None,
        metrics: dict[str, float] | None = None,
        gates: dict[str, Any] | None = None,
    ) -> Bundle:
        """Write a new version: `fill` puts the files into an empty folder, the store adds the manifest.

        The version follows from the content, so writing the same content again returns the version that is there.
        """
        _check(service)
        lineage = lineage or {}
        with tempfile.TemporaryDirectory(dir=self._staging()) as staging:
            folder = Path(staging) / "bundle"
            folder.mkdir()
            fill(folder)
            hashes = file_hashes(folder)
            version = content_version(hashes, lineage, training_days, parent)
            if version not in self.versions(service):
                manifest = Manifest(
                    service=service,
                    version=version,
                    parent=parent,
                    training_days=sorted(training_days),
                    evaluation_days=sorted(evaluation_days or []),
                    lineage=lineage,
                    metrics=metrics or {},
                    gates=gates,
                    files=hashes,
                )
                self._publish(folder, manifest)
        return self.bundle(service, version)

    def versions(self, service: str) -> list[str]:
        """Whole versions of a service, oldest day first."""
        _check(service)
        base = f"{self._root}/{service}"
        if not self._fs.isdir(base):
            return []
        names = (Path(entry).name for entry in self._fs.ls(base, detail=False))
        return sorted(name for name in names if self._fs.exists(f"{base}/{name}/{MANIFEST}"))

    def manifest(self, service: str, version_or_alias: str) -> Manifest:
        """The manifest of a version or alias, its files not yet verified."""
        version = self.resolve(service, version_or_alias)
        where = f"{service}/{version}"
        manifest = read_manifest(self._fs.cat_file(f"{self._root}/{where}/{MANIFEST}").decode(), where)
        if (manifest.service, manifest.version) != (service, version):
            raise BundleCorrupt(
                f"{where} holds the manifest of {manifest.service}/{manifest.version}; it was moved or renamed"
            )
        return manifest

    def bundle(self, service: str, version_or_alias: str) -> Bundle:
        """A verified bundle on local disk.

        Raises:
            BundleNotFound: no such version or alias
            BundleRefused: it fails its checksums or is of a newer format
        """
        manifest = self.manifest(service, version_or_alias)
        path = f"{self._root}/{service}/{manifest.version}"
        if self._local:
            verify(Path(path), manifest)
            return Bundle(Path(path), manifest)
        folder = self._cache / service / manifest.version
        try:
            verify(folder, manifest)
        except BundleCorrupt:  # not copied yet, or harmed on this disk only
            shutil.rmtree(folder, ignore_errors=True)
            self._fetch(path, folder)
            verify(folder, manifest)
        return Bundle(folder, manifest)

    def resolve(self, service: str, version_or_alias: str) -> str:
        """The version that a version or alias stands for."""
        _check(service)
        _check(version_or_alias)
        version = self.alias(service, version_or_alias) or version_or_alias
        if not self._fs.exists(f"{self._root}/{service}/{version}/{MANIFEST}"):
            raise BundleNotFound(
                f"no bundle {version_or_alias!r} of {service!r} in {self._root}; there are "
                f"{', '.join(self.versions(service)) or 'none'}: build one, or name one of these"
            )
        return version

    def alias(self, service: str, alias: str) -> str | None:
        """The version an alias names, or None where there is no such alias."""
        _check(service)
        _check(alias)
        try:
            version: str = self._fs.cat_file(self._alias_path(service, alias)).decode().strip()
        except FileNotFoundError:
            return None
        _check(version)
        return version

    def aliases(self, service: str) -> dict[str, str]:
        """All aliases of a service."""
        base = f"{self._root}/{service}/{_ALIASES}"
        if not self._fs.isdir(base):
            return {}
        names = sorted(Path(entry).name for entry in self._fs.ls(base, detail=False, refresh=True))
        found = {name: self.alias(service, name) for name in names if _NAME.fullmatch(name)}
        return {name: version for name, version in found.items() if version is not None}

    def set_alias(self, service: str, alias: str, version: str) -> None:
        """Point an alias at a version, in one atomic step."""
        self.resolve(service, version)
        self._replace(self._alias_path(service, alias), version.encode())

    def remove_alias(self, service: str, alias: str) -> None:
        """Remove an alias; nothing happens where there is none."""
        if self.alias(service, alias) is not None:
            self._fs.rm_file(self._alias_path(service, alias))

    def note(self, service: str, name: str) -> bytes | None:
        """The content of a small file beside a service's versions, or None where there is none."""
        _check(service)
        _check(name)
        try:
            content: bytes = self._fs.cat_file(f"{self._root}/{service}/{name}")
        except FileNotFoundError:
            return None
        return content

    def set_note(self, service: str, name: str, content: bytes) -> None:
        """Write or replace a small file beside a service's versions, in one atomic step."""
        _check(service)
        _check(name)
        self._replace(f"{self._root}/{service}/{name}", content)

    @contextmanager
    def changing(self, service: str) -> Iterator[None]:
        """Let one process at a time change a service's aliases and versions.

        Held by the operating system, so it cannot go stale. An object store has no such lock: there the last writer
        wins, and every single write is whole all the same.
        """
        _check(service)
        if not self._local:
            yield
            return
        folder = Path(self._root) / service
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def remove(self, service: str, version: str) -> None:
        """Remove a version. Its manifest goes first: what a crash leaves is no version any more.

        Raises:
            BundleNotFound: no such version
            VersionInUse: an alias names it
        """
        if self.resolve(service, version) != version:
            raise BundleNotFound(f"{version!r} of {service!r} is an alias, no version; remove_alias removes it")
        naming = [alias for alias, named in self.aliases(service).items() if named == version]
        if naming:
            raise VersionInUse(f"{service}/{version} is {' and '.join(naming)}; point them elsewhere first")
        path = f"{self._root}/{service}/{version}"
        self._fs.rm_file(f"{path}/{MANIFEST}")
        self._fs.rm(path, recursive=True)

    def _alias_path(self, service: str, alias: str) -> str:
        return f"{self._root}/{service}/{_ALIASES}/{alias}"

    def _replace(self, path: str, content: bytes) -> None:
        """A small file, whole or not at all."""
        self._fs.makedirs(str(Path(path).parent), exist_ok=True)
        if self._local:
            with replacing(Path(path)) as beside:
                beside.write_bytes(content)
        else:
            self._fs.pipe_file(path, content)  # a single put is atomic on object stores

    def _staging(self) -> Path | None:
        """Where to build a bundle: beside its place when local, so that publishing is a rename."""
        if not self._local:
            return None
        folder = Path(self._root) / ".staging"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _publish(self, folder: Path, manifest: Manifest) -> None:
        target = f"{self._root}/{manifest.service}/{manifest.version}"
        text = manifest.model_dump_json(indent=2)
        if self._local:
            (folder / MANIFEST).write_text(text)
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            if Path(target).exists():  # left half-written by a crash: it has no manifest
                shutil.rmtree(target)
            folder.replace(target)
            return
        for name in manifest.files:
            self._fs.makedirs(f"{target}/{Path(name).parent.as_posix()}", exist_ok=True)
            self._fs.put_file(str(folder / name), f"{target}/{name}")
        self._fs.pipe_file(f"{target}/{MANIFEST}", text.encode())

    def _fetch(self, path: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as staging:
            copy = Path(staging) / "bundle"
            self._fs.get(path, str(copy), recursive=True)
            copy.replace(target)


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidName(
            f"{name!r} cannot name a service, version or alias: use letters, digits, '.', '_' and '-', at most 64"
        )
