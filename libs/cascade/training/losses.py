"""What is minimised: one short class per correction, in the papers' order.

Shapes: B rows, N candidates, D dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cascade.training.errors import TrainingInputError


class Temperature(nn.Module):
    """Divides cosines by a temperature, so that a softmax over them can be sharp; fixed, or learned by its log."""

    def __init__(self, value: float, *, learned: bool = False) -> None:
        super().__init__()
        if value <= 0:
            raise TrainingInputError(f"temperature is {value}; give a number above 0")
        self.log_value = nn.Parameter(torch.tensor(math.log(value)), requires_grad=learned)

    def forward(self, queries: Tensor) -> Tensor:
        """float [B, D] → float [B, D]: dividing the queries divides their scores, at a fraction of the work."""
        return queries * torch.exp(-self.log_value)


class LogQCorrection(nn.Module):
    """Takes the log of each candidate's sampling probability off its score.

    A batch meets popular items as negatives more often; without the correction they are pushed down for it.
    Yi et al. 2019, equation 3 (and Bengio and Senécal 2008).
    """

    def forward(self, scores: Tensor, log_q: Tensor) -> Tensor:
        """float [B, N], float [N] → float [B, N]."""
        return scores - log_q


class AccidentalHits(nn.Module):
    """Removes from each row the candidates that are its own positive again, met as another row's item."""

    def forward(self, scores: Tensor, candidates: Tensor, target: Tensor) -> Tensor:
        """float [B, N], items int [N], each row's own column int [B] → float [B, N]."""
        same = candidates[target][:, None] == candidates[None, :]  # [B, N]
        same[torch.arange(len(target), device=target.device), target] = False
        return scores.masked_fill(same, -torch.inf)


class SampledSoftmax(nn.Module):
    """The cross-entropy of each row's positive among the sampled candidates, with the corrections applied."""

    def __init__(self, temperature: Temperature) -> None:
        super().__init__()
        self.temperature = temperature
        self.log_q_correction = LogQCorrection()
        self.accidental_hits = AccidentalHits()

    def forward(
        self,
        queries: Tensor,
        vectors: Tensor,
        target: Tensor,
        log_q: Tensor,
        repeated_items: Tensor | None = None,
        excluded: Tensor | None = None,
    ) -> Tensor:
        """The mean loss, a scalar.

        queries float [B, D], candidates' vectors float [N, D], each row's own column int [B], log_q float [N];
        repeated_items int [N], the item of each column, where the same one may stand in several;
        excluded bool [B, N], candidates that a row is not held against.
        """
        scores = self.temperature(queries) @ vectors.T
        scores = self.log_q_correction(scores, log_q)
        if repeated_items is not None:
            scores = self.accidental_hits(scores, repeated_items, target)
        if excluded is not None:
            scores = scores.masked_fill(excluded, -torch.inf)
        return F.cross_entropy(scores, target)


class PopularityCorrection(nn.Module):
    """Lets a classifier trained on negatives drawn by popularity answer as if they were drawn uniformly.

    Where negatives come with probability q, the log-odds of a click are log p(item | user) - log q + constant:
    popularity cancels out and popular items are ranked too low. Taking log(q × number of items) off the logit
    in training alone leaves the logit itself with uniform negatives' odds.
    """

    def forward(self, logits: Tensor, log_lift: Tensor) -> Tensor:
        """float [B], log(q × number of items) float [B] → float [B]."""
        return logits - log_lift


class ClickLoss(nn.Module):
    """Binary cross-entropy of clicks, rows of weight 0 left out."""

    def __init__(self) -> None:
        super().__init__()
        self.popularity_correction = PopularityCorrection()

    def forward(self, logits: Tensor, labels: Tensor, log_lift: Tensor, weights: Tensor) -> Tensor:
        """Four float [B] → the weighted mean loss, a scalar."""
        logits = self.popularity_correction(logits, log_lift)
        losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        return (losses * weights).sum() / weights.sum().clamp_min(1.0)


class AlikeLoss(nn.Module):
    """Cross-entropy of each click's item among the items of its group, in which they are drawn by popularity.

    A conditional logit over a part of the choice (McFadden 1978): what all items of a group share cancels out, so the
    logits learn what tells them apart, on the scale of `ClickLoss`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.popularity_correction = PopularityCorrection()

    def forward(self, logits: Tensor, labels: Tensor, log_lift: Tensor, weights: Tensor) -> Tensor:
        """float [G, N] four times: clicks, each with the items of its group, weight 0 where one says nothing → the
        weighted mean loss over the clicks, a scalar."""
        own = labels.argmax(1, keepdim=True)
        counts = weights.gather(1, own).squeeze(1)  # 0: a filler
        scores = self.popularity_correction(logits, log_lift).masked_fill(weights == 0, -torch.inf)
        scores = scores.masked_fill((counts == 0)[:, None], 0.0)
        losses = -F.log_softmax(scores, dim=1).gather(1, own).squeeze(1)
        loss: Tensor = (losses * counts).sum() / counts.sum().clamp_min(1.0)
        return loss
