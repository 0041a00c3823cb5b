"""Errors of the candidate index.

IndexingError
├── IndexInputError    vectors or a question that the index cannot hold or answer
├── IndexFileError     a saved index that is absent or damaged
│   └── IndexFormatError   a saved index of a newer format than this release reads
└── IndexBackendError  the search library is not installed
"""

from cascade.errors import CascadeError


class IndexingError(CascadeError):
    """Base of the errors of cascade.index."""


class IndexInputError(IndexingError):
    """Vectors have the wrong shape or hold NaN, or a position or k is outside the index."""


class IndexFileError(IndexingError):
    """A saved index cannot be read: a file is missing or damaged."""


class IndexFormatError(IndexFileError):
    """A saved index was written by a newer release."""


class IndexBackendError(IndexingError):
    """The library that an index needs is not installed."""
