"""How large a generated shop is, and when it opens."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import Any

from cascade.data.errors import ShopConfigInvalid, UnknownDay

FIRST_DAY = date(2026, 1, 5)
MIN_ITEMS = 24


@dataclass(frozen=True)
class ShopConfig:
    """A shop to generate; equal configurations give equal bytes.

    users, items, days: how many there are on the last day (some users and items arrive later than the first)
    interactions_per_user_day: mean over the users who have arrived
    first_day: a UTC date
    """

    users: int
    items: int
    days: int
    interactions_per_user_day: float
    first_day: date = FIRST_DAY
    seed: int = 1

    def __post_init__(self) -> None:
        for name, least in (("users", 1), ("items", MIN_ITEMS), ("days", 1), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                raise ShopConfigInvalid(f"{name} is {value}; give at least {least}")
        if not 0 < self.interactions_per_user_day <= 100:
            raise ShopConfigInvalid(
                f"interactions_per_user_day is {self.interactions_per_user_day}; give more than 0 and at most 100"
            )

    def dates(self) -> list[date]:
        """The shop's days, in order."""
        return [self.first_day + timedelta(days=n) for n in range(self.days)]

    def day_number(self, day: date) -> int:
        """0 for the first day; raises UnknownDay outside the shop's days."""
        number = (day - self.first_day).days
        if not 0 <= number < self.days:
            raise UnknownDay(f"{day} is not a day of this shop; it has {self.dates()[0]} to {self.dates()[-1]}")
        return number

    def to_dict(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "first_day": self.first_day.isoformat()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ShopConfig:
        return cls(**{**values, "first_day": date.fromisoformat(values["first_day"])})


SIZES: dict[str, ShopConfig] = {
    "tiny": ShopConfig(users=150, items=120, days=6, interactions_per_user_day=5.0),
    "small": ShopConfig(users=5_000, items=2_465, days=10, interactions_per_user_day=6.5),
    "seed": ShopConfig(users=300_000, items=2_465, days=14, interactions_per_user_day=3.35),
}
"""`tiny` is for tests, `small` for a first look, `seed` for training in earnest."""
