"""What can go wrong between raw columns and model inputs.

FeatureError
├── FeatureInputError           a table, column or argument cannot be encoded
└── FeatureFileError            a stored transform, vocabulary or table cannot be used
    ├── FeatureFileMissingError     it is not there
    ├── FeatureFileCorruptedError   it is there, and not what was written
    └── FeatureFormatError          it was written by a newer release, or is of another kind
"""

from __future__ import annotations

from pathlib import Path

from cascade.errors import CascadeError


class FeatureError(CascadeError):
    """Base of all errors of cascade.features."""


class FeatureInputError(FeatureError):
    """A table, column or argument cannot be turned into features; the message names it."""


class FeatureFileError(FeatureError):
    """A stored feature artifact cannot be used. `path` is the file or folder at fault."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class FeatureFileMissingError(FeatureFileError):
    """The file is not there."""


class FeatureFileCorruptedError(FeatureFileError):
    """The file's content is not what was written."""


class FeatureFormatError(FeatureFileError):
    """The file was written in a format this release does not read."""
