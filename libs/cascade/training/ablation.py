"""What each modality and each group of features is worth: the models asked again with it hidden.

Hidden is what a model reads where nothing is known: out-of-vocabulary for what is categorical, the training mean for
numbers, the catalog's mean for pictures and texts. The models are not trained again without it, so the loss says how
much the trained models lean on a group, and not how well others could stand in for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cascade.features.item_table import ItemTable
from cascade.features.spec import (
    CONTEXT_CATEGORICAL,
    CONTEXT_CONTINUOUS,
    ITEM_CATEGORICAL,
    ITEM_CONTINUOUS,
    OOV,
    USER_CATEGORICAL,
    USER_CONTINUOUS,
    Encoded,
)
from cascade.features.transforms import UserTransform


@dataclass(frozen=True)
class Group:
    """Features that are hidden together, by their names in `cascade.features.spec`; image and text by these names.

    history: whether the interactions before the row are hidden from both models
    """

    name: str
    user: tuple[str, ...] = ()
    item: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    history: bool = False

    @property
    def touches_items(self) -> bool:
        """Whether the candidate tower reads any of it."""
        return bool(self.item)


GROUPS = (
    Group("image", item=("image",)),
    Group("text", item=("text",)),
    Group("image and text", item=("image", "text")),
    Group("item id", item=("item_id",)),
    Group("item categories", item=("category_l1", "category_l2")),
    Group("item price and gender", item=("price", "item_gender")),
    Group("user id", user=("user_id",)),
    Group("age and gender", user=("age", "age_bucket", "gender")),
    Group("top category", user=("top_category",)),
    Group("session", history=True),
    Group("device", context=("device_type",)),
    Group("hour and weekday", context=CONTEXT_CONTINUOUS),
)


def hide_items(items: ItemTable, group: Group) -> ItemTable:
    """The catalog without the group's features."""
    hidden = _hide(items.encoded, group.item, ITEM_CATEGORICAL, ITEM_CONTINUOUS, None)
    image, text = (
        np.broadcast_to(vectors.mean(axis=0), vectors.shape).astype(np.float32) if name in group.item else vectors
        for name, vectors in (("image", items.image), ("text", items.text))
    )
    return replace(items, categorical=hidden.categorical, continuous=hidden.continuous, image=image, text=text)


def hide_users(users: Encoded, group: Group, transform: UserTransform) -> Encoded:
    """The users as they are encoded where the group's features are not known."""
    unknown = transform.encode([None], [None], [None], [None])
    return _hide(users, group.user, USER_CATEGORICAL, USER_CONTINUOUS, unknown)


def hide_context(context: Encoded, group: Group) -> Encoded:
    """The context without the group's features."""
    return _hide(context, group.context, CONTEXT_CATEGORICAL, CONTEXT_CONTINUOUS, None)


def is_inert(group: Group, items: ItemTable, users: Encoded, context: Encoded, transform: UserTransform) -> bool:
    """Whether hiding the group changes nothing, since nobody knows anything of it."""
    if group.history:
        return False
    hidden = hide_items(items, group)
    encoded = (
        (items.encoded, hidden.encoded),
        (users, hide_users(users, group, transform)),
        (context, hide_context(context, group)),
    )
    pairs = [(items.image, hidden.image), (items.text, hidden.text)]
    pairs += [(before.continuous, after.continuous) for before, after in encoded]
    same = all(np.array_equal(before, after) for before, after in pairs)
    return same and all(np.array_equal(before.categorical, after.categorical) for before, after in encoded)


def _hide(
    encoded: Encoded,
    names: Sequence[str],
    categorical: Sequence[str],
    continuous: Sequence[str],
    unknown: Encoded | None,
) -> Encoded:
    """A copy with the named columns as in `unknown` [1], by default out-of-vocabulary and 0, the mean."""
    rows, numbers = encoded.categorical.copy(), encoded.continuous.copy()
    for at in _places(names, categorical):
        rows[:, at] = OOV if unknown is None else unknown.categorical[0, at]
    for at in _places(names, continuous):
        numbers[:, at] = 0.0 if unknown is None else unknown.continuous[0, at]
    return Encoded(rows, numbers)


def _places(names: Sequence[str], columns: Sequence[str]) -> NDArray[np.intp]:
    return np.array([at for at, name in enumerate(columns) if name in names], np.intp)
