from __future__ import annotations

import pytest
import torch

from cascade.embeddings.device import pick_device


@pytest.mark.parametrize(("gpu", "expected"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_taken_where_there_is_one(gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert pick_device().type == expected
    assert pick_device("cpu").type == "cpu"
