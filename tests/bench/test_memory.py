"""What the bench counts as held is what is held."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bench.memory import held


def test_bytes_of_numpy_python_and_arrow() -> None:
    assert held(lambda: np.zeros(1_000_000, np.uint8)) == pytest.approx(1_000_000, rel=0.01)
    assert held(lambda: [str(number).zfill(51) for number in range(10_000)]) == pytest.approx(10_000 * 108, rel=0.05)
    assert held(lambda: pa.array(np.arange(1_000_000, dtype=np.int64)).cast(pa.float64())) >= 8_000_000


def test_what_is_let_go_does_not_count() -> None:
    assert held(lambda: np.zeros(1_000_000, np.uint8).sum()) < 10_000
