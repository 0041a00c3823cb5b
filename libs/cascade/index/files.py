"""How an index lies in a folder: the vectors in a file of their own, and `index.json` about them."""

from __future__ import annotations

import json
from pathlib import Path

from cascade.files import replacing
from cascade.index.errors import IndexFileError, IndexFormatError
from cascade.index.exact import ExactIndex
from cascade.index.faiss_index import FaissIndex
from cascade.index.interface import CandidateIndex

FORMAT = 1
"""Raised when a saved index can no longer be read by an older release."""

HEADER_FILE = "index.json"
KINDS: dict[str, type[CandidateIndex]] = {kind.kind: kind for kind in (ExactIndex, FaissIndex)}


def write_header(folder: Path, index: CandidateIndex) -> None:
    """Write `index.json`, last, so that a folder with a header is whole."""
    header = {
        "format": FORMAT,
        "kind": index.kind,
        "count": index.count,
        "dim": index.dim,
        "parameters": index.parameters,
        "source": index.source,
    }
    with replacing(folder / HEADER_FILE) as beside:
        beside.write_text(json.dumps(header, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_index(folder: Path, threads: int | None = None) -> CandidateIndex:
    """The index saved in `folder`, searching with this many threads (None: the library's choice).

    Raises IndexFileError where it is missing, damaged or not what its header says, IndexFormatError where it
    is newer than this release.
    """
    path = folder / HEADER_FILE
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        found, kind = header["format"], header["kind"]
        count, dim, parameters = header["count"], header["dim"], header["parameters"]
    except FileNotFoundError as error:
        raise IndexFileError(f"no saved index at {path}; build one, or give another folder") from error
    except (ValueError, KeyError, TypeError) as error:
        raise IndexFileError(f"{path} does not describe an index ({error}); build it again") from error
    if not isinstance(found, int) or found > FORMAT:
        raise IndexFormatError(
            f"{path} has format {found!r} and this release reads up to {FORMAT}; "
            "update Cascade, or build the index with this release"
        )
    if kind not in KINDS:
        raise IndexFileError(f"{path} is of kind {kind!r}; this release knows {sorted(KINDS)}")
    index = KINDS[kind].read(folder, threads)
    if (index.count, index.dim) != (count, dim):
        raise IndexFileError(
            f"{path} promises {count} vectors of {dim} dimensions, found are {index.count} of {index.dim}; "
            "build the index again"
        )
    if isinstance(index, FaissIndex):
        index.describe(parameters)
    index.source = header.get("source")
    return index
