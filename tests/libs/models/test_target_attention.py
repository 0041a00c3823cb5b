"""Target attention by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cascade.models import Dlrm
from cascade.models.errors import ModelConfigError
from cascade.models.history import MASKED
from cascade.models.matches import EventHistories, HistoryMatches
from cascade.models.target_attention import LOG_SCALE, PackedAttention, TargetAttention

# item_id, category by position
CATALOG = np.array([[1, 1], [2, 1], [3, 2]], np.int32)


def attention() -> TargetAttention:
    """One head over two numbers; a vector is what the id and the category say, added up."""
    module = TargetAttention((4, 3), 1, 2)
    ids, categories = module.tables.tables
    with torch.no_grad():
        ids.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.0, 2.0]]))
        categories.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        module.question.copy_(torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]))
        module.value.copy_(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))
    return module


VECTORS = np.array([[2.0, 0.0], [1.5, 0.5], [0.0, 3.0]])


def by_hand(candidate: int, events: list[int], by_event: list[float]) -> list[float]:
    asked = VECTORS[candidate] @ np.diag([1.0, 2.0])
    odds = np.exp([asked @ VECTORS[event] + counts for event, counts in zip(events, by_event, strict=True)])
    worth = [VECTORS[candidate][::-1] @ VECTORS[event] for event in events]
    return [LOG_SCALE * np.log(1 + odds.sum()), float(odds @ worth / (1 + odds.sum()))]


def test_two_events_by_hand() -> None:
    by_event = [-1.0, 0.5]
    wanted = [by_hand(item, [0, 2], by_event) for item in range(3)]
    with torch.no_grad():
        found = attention()(
            torch.tensor([[[*by_event, MASKED]]]), torch.from_numpy(CATALOG[[0, 2, 1]][None]),
            torch.from_numpy(CATALOG[None]),
        )  # fmt: skip
    np.testing.assert_allclose(found[0].numpy(), wanted, rtol=1e-5)
    packed, out = PackedAttention(attention(), CATALOG), np.empty((3, 2), np.float32)
    packed.begin(CATALOG[[0, 2]], np.array([by_event], np.float32))
    packed.write(np.arange(3), out)
    np.testing.assert_allclose(out, wanted, rtol=1e-5)


def test_who_did_nothing_gives_zeros() -> None:
    packed, out = PackedAttention(attention(), CATALOG), np.ones((3, 2), np.float32)
    packed.begin(CATALOG[[0]], np.zeros((1, 1), np.float32))
    packed.begin(CATALOG[:0], np.zeros((1, 0), np.float32))
    packed.write(np.arange(3), out)
    assert (out == 0).all()
    module = HistoryMatches(2, 10, 3, 1, 1, attention())
    for events in (EventHistories.empty(1, 2), EventHistories.gather(
        np.full((1, 2), -1, np.int32), np.ones((1, 2), np.int32), np.ones((1, 2), np.int64), CATALOG
    )):  # fmt: skip
        with torch.no_grad():
            found = module(events.tensors(torch.device("cpu")), None, torch.from_numpy(CATALOG[:1]))
        np.testing.assert_allclose(found[0, 6:8].numpy(), [0, 0], atol=1e-6)


def test_a_large_similarity_does_not_overflow() -> None:
    module = attention()
    with torch.no_grad():
        module.question.mul_(100)
    packed, out = PackedAttention(module, CATALOG), np.empty((3, 2), np.float32)
    packed.begin(CATALOG, np.zeros((1, 3), np.float32))
    with np.errstate(over="raise", invalid="raise"):
        packed.write(np.arange(3), out)
    np.testing.assert_allclose(out[2], [LOG_SCALE * 1800, 0], rtol=1e-5)  # the third item finds itself


def test_a_ranker_keeps_its_heads(dlrm_config, tmp_path) -> None:
    config = replace(dlrm_config, history_length=6, history_event_types=4, attention_heads=2)
    model = Dlrm(config)
    assert model.matches is not None
    assert model.matches.attention is not None
    torch.nn.init.normal_(model.matches.attention.value)
    model.save(tmp_path)
    again = Dlrm.load(tmp_path)
    assert again.config == config
    assert again.fingerprint() == model.fingerprint() != Dlrm(config).fingerprint()


@pytest.mark.parametrize(("fields", "heads", "dim"), [((), 1, 4), ((5,), 0, 4), ((5,), 1, 0)])
def test_sizes_of_0_are_refused(fields: tuple[int, ...], heads: int, dim: int) -> None:
    with pytest.raises(ModelConfigError, match="give at least 1 of each"):
        TargetAttention(fields, heads, dim)
