"""Which days the full training knows: fixed when it is built, so that the days after are the daily loop's.

`<state>/base.json` says them. Without it, or under settings that split the days otherwise, they follow from the shop's
days; the next build writes it. A full retrain writes it anew, with all complete days.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from cascade.data.contract import ITEMS, Dataset
from cascade.data.split import DaySplit, TooFewDays, split_days
from cascade.files import replacing
from cascade.settings import Settings

FILE = "base.json"
_SPLIT_BY = ("shop", "shop_size", "shop_first_day", "train_share", "kept_days")


@dataclass(frozen=True)
class Base:
    """The days of the full training.

    retrained: when a full retrain chose them; it makes all that they make anew
    items: digest of items.parquet when the base was built. What a shop of one's own changes there afterwards is taken
        in as new items and is no reason to train everything again.
    """

    split: DaySplit
    retrained: str | None = None
    items: str | None = None

    @property
    def days(self) -> list[date]:
        """All days it was chosen from."""
        return [*self.split.train, *self.split.evaluate, *self.split.fine_tune]

    @property
    def last(self) -> date:
        """The last day that the full training learns from or is evaluated on; later ones are fine-tuned on."""
        return self.split.evaluate[-1]


def base_of(settings: Settings) -> Base:
    """The recorded base, or the one that a build would record now."""
    return recorded_base(settings) or fresh_base(settings)


def fresh_base(settings: Settings) -> Base:
    """From the shop as it is. Raises TooFewDays."""
    return Base(split_days(own_days(settings), settings.train_share, settings.kept_days), items=_items(settings))


def own_days(settings: Settings) -> list[date]:
    """All days the shop has beside live traffic: those on disk for one's own, those of the configuration otherwise."""
    from orchestration.shop import built_in_config

    if settings.own_shop:
        return Dataset(settings.dataset_dir).days(base_only=True)
    return built_in_config(settings).dates()


def recorded_base(settings: Settings) -> Base | None:
    """What base.json says; None where it is absent, or of other settings or another shop."""
    try:
        content = json.loads((settings.state_dir / FILE).read_text())
        days = [[date.fromisoformat(day) for day in content[run]] for run in ("train", "evaluate", "fine_tune")]
        base = Base(DaySplit(*days), content["retrained"], content["items"])
        same = content["split_by"] == _split_by(settings)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    if not same or not base.split.train or not base.split.evaluate:
        return None
    known = set(own_days(settings))
    if not set(base.days) <= known:
        known |= set(days_of(settings))
    return base if set(base.days) <= known else None


def record_base(settings: Settings, base: Base) -> None:
    """Write base.json, whole or not at all."""
    content = {
        "train": [day.isoformat() for day in base.split.train],
        "evaluate": [day.isoformat() for day in base.split.evaluate],
        "fine_tune": [day.isoformat() for day in base.split.fine_tune],
        "retrained": base.retrained,
        "items": base.items,
        "split_by": _split_by(settings),
    }
    with replacing(settings.state_dir / FILE) as beside:
        beside.write_text(json.dumps(content, indent=2))


def base_file(settings: Settings) -> Path:
    """Where the record lies."""
    return settings.state_dir / FILE


def base_of_all_days(settings: Settings, now: datetime | None = None) -> Base:
    """For a full retrain: all complete days, the last ones to evaluate on. Raises TooFewDays."""
    now = now or datetime.now(UTC)
    days = complete_days(days_of(settings), now, settings.day_grace_minutes)
    held = settings.retrain_evaluation_days
    if len(days) <= held:
        raise TooFewDays(f"{len(days)} complete days cannot train beside {held} to evaluate on; wait for more")
    split = DaySplit(days[:-held], days[-held:], [])
    return Base(split, now.isoformat(timespec="microseconds"), _items(settings))


def days_of(settings: Settings) -> list[date]:
    """The days that have interactions now, those of live traffic too."""
    return Dataset(settings.dataset_dir).days() if settings.dataset_dir.is_dir() else []


def complete_days(days: list[date], now: datetime, grace_minutes: int) -> list[date]:
    """Those to which nothing comes any more: a later one has rows, or they ended more than the grace ago."""
    ended = (now - timedelta(minutes=grace_minutes)).date()
    return [day for day in sorted(days) if day < max(days) or day < ended]


def days_to_learn(settings: Settings, now: datetime | None = None) -> list[date]:
    """Complete days after the base, in order."""
    last = base_of(settings).last
    days = complete_days(days_of(settings), now or datetime.now(UTC), settings.day_grace_minutes)
    return [day for day in days if day > last]


def _items(settings: Settings) -> str | None:
    """Only a shop of one's own is told by its content; the built-in one by its settings."""
    return Dataset(settings.dataset_dir).table_digest(ITEMS) if settings.own_shop else None


def _split_by(settings: Settings) -> dict[str, Any]:
    return {name: str(getattr(settings, name)) for name in _SPLIT_BY}
