"""The visitors: who they are, what they like, how often they come and on what device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cascade.data.contract import USERS_CONTRACT
from cascade.data.generator import rng
from cascade.data.generator.config import ShopConfig
from cascade.data.generator.taxonomy import FEMALE, GENDER_NAMES, MALE

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

NEW_SHARE = 0.15
"""Share of users who come for the first time on a later day."""
UNSTATED_SHARE = 0.02
"""Share of users whose age is not in users.parquet, and, apart, whose gender is not."""
MEAN_AGE, AGE_SPREAD = 40.0, 16.0
SENSITIVITY_SHAPE, SENSITIVITY_SCALE = 2.0, 0.35
"""Of the gamma that price sensitivity is drawn from."""


@dataclass(frozen=True)
class People:
    """U users.

    table: users.parquet, in its order; it leaves some ages and genders out
    age: float32 [U]; gender: int32 [U], 1 F, 2 M (0: neither)
    price_sensitivity: float32 [U], how strongly a price above the style's usual one repels
    activity: float32 [U], mean 1, factor on the number of sessions
    device_share: float32 [U, 3], chances of mobile, desktop, tablet
    first_day: int32 [U], the day number of the first possible visit
    """

    table: pa.Table
    age: Floats
    gender: Ints
    price_sensitivity: Floats
    activity: Floats
    device_share: Floats
    first_day: Ints

    @property
    def user_ids(self) -> list[str]:
        return list(self.table.column("user_id").to_pylist())

    @property
    def age_standard(self) -> Floats:
        """Age in spreads from the mean, [U]."""
        return ((self.age - MEAN_AGE) / AGE_SPREAD).astype(np.float32)


def build_people(config: ShopConfig) -> People:
    """The built-in shop's visitors, from the configuration alone."""
    random = rng.generator(config.seed, "people")
    n = config.users
    age = np.clip(16 + random.gamma(2.6, 9.5, n), 16, 90).astype(np.int32)
    gender = random.choice([FEMALE, MALE], size=n, p=[0.54, 0.46]).astype(np.int32)
    table = pa.table(
        {
            "user_id": rng.uuids(config.seed, "user ids", n),
            "age": pa.array(age, pa.int32(), mask=random.random(n) < UNSTATED_SHARE),
            "gender": pa.array([GENDER_NAMES[g] for g in gender], pa.string(), mask=random.random(n) < UNSTATED_SHARE),
        },
        schema=USERS_CONTRACT.schema,
    )
    return People(
        table=table,
        age=age.astype(np.float32),
        gender=gender,
        price_sensitivity=random.gamma(SENSITIVITY_SHAPE, SENSITIVITY_SCALE, n).astype(np.float32),
        **habits(n, config.days, config.seed),
    )


def habits(users: int, days: int, seed: int) -> dict[str, Any]:
    """How often, on what and since when users come: the fields of People that no shop's export tells."""
    random = rng.generator(seed, "habits")
    shape = 3.0  # of the gamma: a few come often, many seldom
    activity = random.gamma(shape, 1 / shape, users)
    device = random.gamma(np.array([1.6, 1.0, 0.35]), size=(users, 3)) + 1e-3
    arrival = random.random(users)
    if days > 1:
        late = 1 + (arrival / NEW_SHARE * (days - 1)).astype(np.int32)
        first_day = np.where(arrival < NEW_SHARE, late, 0)
    else:
        first_day = np.zeros(users)
    return {
        "activity": activity.astype(np.float32),
        "device_share": (device / device.sum(axis=1, keepdims=True)).astype(np.float32),
        "first_day": first_day.astype(np.int32),
    }
