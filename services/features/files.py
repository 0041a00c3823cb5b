"""Live Parquet files of a dataset folder: written beside their name, then renamed.

`<dataset>/interactions/date=YYYY-MM-DD/live-….parquet`, and impressions likewise; the temporary file is hidden and
has another ending, so that no reader of the folder meets it. A file is named by its path below the dataset.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cascade.data.contract import IMPRESSIONS, INTERACTIONS, day_folder

_NAME = re.compile(rf"({INTERACTIONS}|{IMPRESSIONS})/date=\d{{4}}-\d{{2}}-\d{{2}}/live-[0-9a-z-]+\.parquet")
_TEMPORARY = ".part"
_LOCK = ".live.lock"


class LiveFiles:
    """The live files below one dataset folder. What it writes survives the machine: files are synced before they are
    renamed, and their folder after."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Held from the question who was forgotten until a file has its name; many may write at once."""
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def rewriting(self) -> Iterator[None]:
        """Held while a user's rows are removed: what was being written is whole by then; nobody writes meanwhile."""
        with self._locked(fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / _LOCK).open("w") as lock:
            fcntl.flock(lock, how)  # the system lets go of it when its holder dies
            yield

    def new_name(self, table: str, day: date) -> str:
        """A name that no other file has or will have; names of one folder order by the time they were given."""
        return f"{table}/{day_folder(day)}/live-{time.time_ns() // 1_000_000}-{uuid.uuid4().hex}.parquet"

    def write(self, name: str, table: pa.Table) -> None:
        """Write the temporary file."""
        temporary = self._temporary(name)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, temporary, compression="zstd")
        _sync(temporary)

    def publish(self, name: str) -> bool:
        """Give the file its name, unless it has it already. False where neither it nor its temporary file exists."""
        final = self.path(name)
        try:
            os.replace(self._temporary(name), final)
        except FileNotFoundError:
            # whoever else finished it did so by the same rename
            return final.exists()
        _sync(final.parent)
        return True

    def discard(self, name: str) -> None:
        """Remove the temporary file."""
        self._temporary(name).unlink(missing_ok=True)

    def temporary(self, table: str, older_than_s: float) -> Iterator[str]:
        """Names whose temporary file is older than that: left by workers that died before they owned the entries.

        A day has tens of thousands of files: they are looked at one by one, never held as a list.
        """
        limit = time.time() - older_than_s
        for folder in (self._root / table).glob("date=*/"):
            with suppress(FileNotFoundError), os.scandir(folder) as found:  # retention may take the day meanwhile
                for file in found:
                    if not (file.name.startswith(".live-") and file.name.endswith(_TEMPORARY)):
                        continue
                    try:
                        old = file.stat().st_mtime < limit
                    except FileNotFoundError:
                        continue
                    name = f"{table}/{folder.name}/{file.name.removeprefix('.').removesuffix(_TEMPORARY)}"
                    if old and is_live_name(name):
                        yield name

    def path(self, name: str) -> Path:
        """Where the file lies. Raises ValueError for what is no name of a live file."""
        if not is_live_name(name):
            raise ValueError(f"{name!r} is no name of a live file; these look like interactions/date=…/live-….parquet")
        return self._root / name

    def _temporary(self, name: str) -> Path:
        final = self.path(name)
        return final.with_name(f".{final.name}{_TEMPORARY}")


def is_live_name(name: str) -> bool:
    """Whether it is the name of a live file, which stays below the dataset."""
    return _NAME.fullmatch(name) is not None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
