"""A console nobody reads."""

import io

import pytest
from rich.console import Console


@pytest.fixture
def quiet() -> Console:
    return Console(file=io.StringIO(), width=100)
