"""Which rows a report looks at by themselves.

Shapes: R rows, I items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cascade.features.spec import DEVICES
from cascade.training.questions import Questions

Mask = NDArray[np.bool_]

ALL, COLD = "all", "cold users"
FOUND = "found by retrieval"
NEW_ITEMS, KNOWN_ITEMS = "new items", "known items"
ACTIVITY = ((0, 0, "0 events"), (1, 2, "1 to 2 events"), (3, 9, "3 to 9 events"), (10, 29, "10 to 29 events"))
_MANY = "30 events and more"
CATEGORIES = 8
"""The categories with the most rows, each a slice."""


def new_users(events: int) -> str:
    """The slice of rows asked as if their user had come `events` interactions ago."""
    return COLD if events == 0 else f"new users, {events} event{'s' if events > 1 else ''}"


def slices_of(
    questions: Questions, item_counts: NDArray[np.floating], categories: Sequence[str], retrieved: NDArray[np.integer]
) -> dict[str, Mask]:
    """All rows; each device; how much their user had met before; items that training met or not; categories.

    item_counts: how often training met each item [I]; categories: of each item [I], empty where there is none
    retrieved: retrieval's candidates [R, K]; the rows whose item is among them are what the ranker can do well on
    Slices without a row are left out.
    """
    slices: dict[str, Mask] = {ALL: np.ones(len(questions), bool)}
    slices[FOUND] = (retrieved == questions.item[:, None]).any(axis=1)
    devices = questions.devices
    slices |= {device: np.array([one == device for one in devices], bool) for device in DEVICES}
    slices["unknown device"] = np.array([one not in DEVICES for one in devices], bool)
    counts = questions.history.counts
    slices |= {name: (counts >= least) & (counts <= most) for least, most, name in ACTIVITY}
    slices[_MANY] = counts > ACTIVITY[-1][1]
    new = item_counts[questions.item] == 0
    slices |= {NEW_ITEMS: new, KNOWN_ITEMS: ~new}
    of_row = np.array([categories[item] for item in questions.item], object)
    names, rows = np.unique(of_row.astype(str), return_counts=True)
    for at in np.argsort(-rows, kind="stable")[:CATEGORIES]:
        if names[at]:
            slices[f"category {names[at]}"] = of_row == names[at]
    return {name: chosen for name, chosen in slices.items() if chosen.any()}
