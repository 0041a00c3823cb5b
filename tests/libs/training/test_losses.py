from __future__ import annotations

import numpy as np
import pytest
import torch

from cascade.training.errors import TrainingInputError
from cascade.training.losses import AccidentalHits, AlikeLoss, ClickLoss, LogQCorrection, SampledSoftmax, Temperature


def vectors(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed))


def test_the_sampled_softmax_is_the_papers_formula_by_hand() -> None:
    queries, candidates = vectors(4, 1), vectors(4, 2)
    items, q, temperature = [7, 3, 7, 1], {7: 0.5, 3: 0.3, 1: 0.2}, 0.3
    losses = []
    for row in range(4):
        corrected = {}
        for column in range(4):
            # an accidental hit: another row's column that holds this row's positive
            if column != row and items[column] == items[row]:
                continue
            score = float(queries[row] @ candidates[column]) / temperature
            corrected[column] = score - np.log(q[items[column]])
        losses.append(-corrected[row] + np.log(sum(np.exp(s) for s in corrected.values())))
    loss = SampledSoftmax(Temperature(temperature))(
        queries,
        candidates,
        torch.arange(4),
        torch.tensor([np.log(q[item]) for item in items], dtype=torch.float32),
        torch.tensor(items),
    )
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)


def test_accidental_hits_leave_the_rows_own_column() -> None:
    masked = AccidentalHits()(torch.zeros(3, 3), torch.tensor([5, 6, 5]), torch.arange(3))
    hidden = [[False, False, True], [False, False, False], [True, False, False]]
    assert torch.isinf(masked).tolist() == hidden


def test_log_q_makes_a_sample_stand_for_the_whole() -> None:
    """The corrected sum over candidates drawn with probability q estimates the full softmax's denominator."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=50)
    q = rng.random(50)
    q /= q.sum()
    drawn = rng.choice(50, 200_000, p=q)
    log_q = torch.tensor(np.log(q[drawn]), dtype=torch.float32)
    corrected = LogQCorrection()(torch.tensor(scores[drawn], dtype=torch.float32)[None], log_q)
    estimate = float(corrected.exp().mean())
    assert estimate == pytest.approx(np.exp(scores).sum(), rel=0.02)


def test_the_temperature_divides_and_learns_only_if_asked() -> None:
    fixed, learned = Temperature(0.5), Temperature(0.5, learned=True)
    torch.testing.assert_close(fixed(torch.ones(1, 2)), torch.full((1, 2), 2.0))
    assert not fixed.log_value.requires_grad
    assert learned.log_value.requires_grad
    with pytest.raises(TrainingInputError, match="temperature is 0"):
        Temperature(0)


def test_rows_of_weight_0_do_not_count() -> None:
    logits, labels = torch.tensor([0.3, 9.0]), torch.tensor([1.0, 0.0])
    loss = ClickLoss()(logits, labels, torch.zeros(2), torch.tensor([1.0, 0.0]))
    assert float(loss) == pytest.approx(np.log1p(np.exp(-0.3)))


def test_the_alike_loss_by_hand() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.3, -1.0, 4.0], [9.0, 9.0, 9.0]], requires_grad=True)
    lift = torch.tensor([[0.1, 0.4, -0.2], [0.1, 0.4, -0.2], [0.0, 0.0, 0.0]])
    labels = torch.eye(3)
    weights = torch.tensor([[2.0, 2.0, 2.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])  # of another kind, and a filler
    loss = AlikeLoss()(logits, labels, lift, weights)
    first = np.exp([0.9, 1.6, 0.7])
    second = np.exp([0.2, -1.4])
    wanted = -(2 * np.log(first[0] / first.sum()) + np.log(second[1] / second.sum())) / 3
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[2] == 0).all()
    assert logits.grad[1, 2] == 0


def test_alike_and_click_loss_want_the_same_logits() -> None:
    """Within a group drawn by popularity the best logits are log p(item | user), as among uniform negatives."""
    p, q = np.array([0.6, 0.3, 0.1]), np.array([0.7, 0.2, 0.1])
    logits = torch.tensor(np.log(p), dtype=torch.float32, requires_grad=True)
    groups, chances = [], []
    for own in range(3):
        for other in range(3):
            if own != other:
                groups.append((own, other))
                chances.append(p[own] * q[other])  # the click is the user's, the other one by popularity
    at = torch.tensor(groups)
    labels = torch.tensor([[1.0, 0.0]]).repeat(len(at), 1)
    lift = torch.tensor(np.log(q), dtype=torch.float32)
    weights = torch.tensor(chances, dtype=torch.float32)[:, None].repeat(1, 2)
    AlikeLoss()(logits[at], labels, lift[at], weights).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(3), atol=1e-6, rtol=0)


def test_the_popularity_correction_gives_uniform_negatives_odds() -> None:
    """The best logits under negatives drawn by q, corrected, are log(p × items / K), whatever q is."""
    p, q, negatives = np.array([0.6, 0.3, 0.1]), np.array([0.7, 0.2, 0.1]), 5
    logits = torch.tensor(np.log(p * 3 / negatives), dtype=torch.float32, requires_grad=True)
    # expected counts of clicks and negatives of each item, for one user
    weights = torch.tensor(np.concatenate([p, negatives * q]), dtype=torch.float32)
    labels = torch.tensor([1.0] * 3 + [0.0] * 3)
    log_lift = torch.tensor(np.log(q * 3), dtype=torch.float32)
    loss = ClickLoss()(logits.repeat(2), labels, log_lift.repeat(2), weights)
    loss.backward()
    torch.testing.assert_close(logits.grad, torch.zeros(3), atol=1e-6, rtol=0)
