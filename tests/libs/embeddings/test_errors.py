from __future__ import annotations

import inspect

import pytest

from cascade.embeddings import errors
from cascade.errors import CascadeError

CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, CascadeError) and value is not CascadeError
]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_an_embedding_error_and_stands_in_the_tree(error: type[Exception]) -> None:
    assert issubclass(error, errors.EmbeddingError)
    assert error.__name__ in (errors.__doc__ or "")
