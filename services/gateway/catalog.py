"""The shop's items as the gateway shows them: lookup, browsing and text search, in memory."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

from cascade.api.gateway import Item
from cascade.api.storefront import Facets
from services.gateway.facets import facets_of

_TEXT_FIELDS = ("title", "description", "category_l1", "category_l2", "gender")


@dataclass(frozen=True)
class ItemQuery:
    """What a page of the catalog is narrowed by; None narrows nothing. Prices are inclusive."""

    category_l1: str | None = None
    category_l2: str | None = None
    gender: str | None = None
    min_price: float | None = None
    max_price: float | None = None
    q: str | None = None


class Catalog:
    """Every item of the bundle, by id and in the catalog's order.

    with_images: whether this gateway serves the pictures; without, an item's `image` is null
    """

    def __init__(self, items: Mapping[str, Mapping[str, Any]], *, with_images: bool) -> None:
        self._items = {item_id: _item(item_id, row, with_images) for item_id, row in items.items()}
        # One folded text an item, so that a search is one substring test a word.
        self._texts = {item_id: _fold(_text(item)) for item_id, item in self._items.items()}

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def get(self, item_id: str) -> Item | None:
        """The item, or None where the catalog does not hold it."""
        return self._items.get(item_id)

    def first_id(self) -> str | None:
        """Some id to show as an example; None for an empty catalog."""
        return next(iter(self._items), None)

    @cached_property
    def facets(self) -> Facets:
        """What it can be narrowed by, counted when first asked."""
        return facets_of(self._items.values())

    def split(self, item_ids: list[str]) -> tuple[list[str], list[str]]:
        """Ids the catalog holds and ids it does not, each in the order received."""
        strange = set(item_ids).difference(self._items)  # a look-up an id, none of them in Python
        if not strange:
            return item_ids, []
        return [one for one in item_ids if one not in strange], [one for one in item_ids if one in strange]

    def page(self, query: ItemQuery, offset: int, limit: int) -> tuple[list[Item], int]:
        """One page of the items that match, in the catalog's order, and the number of all that match."""
        matching = [item for item in self._items.values() if self._matches(item, query)]
        return matching[offset : offset + limit], len(matching)

    def _matches(self, item: Item, query: ItemQuery) -> bool:
        return (
            (query.category_l1 is None or item.category_l1 == query.category_l1)
            and (query.category_l2 is None or item.category_l2 == query.category_l2)
            and (query.gender is None or item.gender == query.gender)
            and (query.min_price is None or (item.price is not None and item.price >= query.min_price))
            and (query.max_price is None or (item.price is not None and item.price <= query.max_price))
            and (query.q is None or self._mentions(item.item_id, _fold(query.q).split()))
        )

    def _mentions(self, item_id: str, words: Sequence[str]) -> bool:
        text = self._texts[item_id]
        return all(word in text for word in words)


def _item(item_id: str, row: Mapping[str, Any], with_images: bool) -> Item:
    image = row.get("image")
    price = row.get("price")
    # model_construct: rows come from a verified bundle, and a million of them load at once.
    return Item.model_construct(
        item_id=item_id,
        title=row.get("title") or "",
        description=row.get("description") or "",
        category_l1=row.get("category_l1") or "",
        category_l2=row.get("category_l2") or "",
        price=None if price is None else _shortest(price),
        gender=row.get("gender"),
        image=f"/images/{quote(image)}" if image and with_images else None,
    )


def _shortest(price: float) -> float:
    """19.989999771118164 → 19.99: tables keep prices as float32, which holds 7 digits and no more."""
    return float(f"{price:.7g}")


def _text(item: Item) -> str:
    return " ".join(str(getattr(item, name) or "") for name in _TEXT_FIELDS)


def _fold(text: str) -> str:
    """Text without case and without accents, so that `creme` finds `Crème`."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))
