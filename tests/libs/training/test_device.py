from __future__ import annotations

import pytest
import torch

from cascade.training.device import choose_device, torch_threads
from cascade.training.errors import TrainingInputError


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device().type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device().type == "cuda"


def test_a_device_that_is_not_there_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingInputError, match="there is no GPU"):
        choose_device("cuda")
    with pytest.raises(TrainingInputError, match="'abacus' is unknown"):
        choose_device("abacus")


def test_threads_are_put_back() -> None:
    torch.set_num_threads(2)
    with torch_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with torch_threads(None):
        assert torch.get_num_threads() == 2
