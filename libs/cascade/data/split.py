"""Which days train, which evaluate, which are kept for fine-tuning: a split by time, the same for every stage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from cascade.errors import CascadeError

TRAIN_SHARE = 0.643  # 9 of 14 days


class TooFewDays(CascadeError):
    """There are not enough days to train on some and evaluate on later ones."""


@dataclass(frozen=True)
class DaySplit:
    """Three runs of days, in order: no model sees a day after those it is evaluated on."""

    train: list[date]
    evaluate: list[date]
    fine_tune: list[date]


def split_days(days: list[date], train_share: float = TRAIN_SHARE, kept: int | None = None) -> DaySplit:
    """Split days by time.

    Args:
        days: all days of a dataset
        train_share: share of them that the full training sees
        kept: days at the end kept for fine-tuning; None: 2, or 3 where there are fewer than 14 days, so that
            14 days make 9 + 3 + 2 and 10 days 6 + 1 + 3

    Raises:
        TooFewDays: fewer than two days
    """
    days = sorted(days)
    if len(days) < 2:
        raise TooFewDays(
            f"a dataset of {len(days)} days cannot train on one day and evaluate on a later one; give 2 days or more"
        )
    train = min(max(1, round(len(days) * train_share)), len(days) - 1)
    wanted = kept if kept is not None else (2 if len(days) >= 14 else 3)
    fine_tune = min(wanted, len(days) - train - 1)
    end = len(days) - fine_tune
    return DaySplit(days[:train], days[train:end], days[end:])
