from __future__ import annotations

import pytest
import torch

from cascade.models.device import choose_device
from cascade.models.errors import DeviceError


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device().type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device().type == "cuda"
    assert choose_device("cpu").type == "cpu"


def test_a_device_that_is_not_there_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="there is no GPU"):
        choose_device("cuda")
    with pytest.raises(DeviceError, match="'abacus' is unknown"):
        choose_device("abacus")
