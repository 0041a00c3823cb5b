"""What the catalog can be narrowed by, counted once a bundle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from cascade.api.gateway import Item
from cascade.api.storefront import Category, CategoryCount, Facets


def facets_of(items: Iterable[Item]) -> Facets:
    """Categories and audiences by name with their counts, and the span of prices. Items without one count nowhere."""
    first: Counter[str] = Counter()
    second: dict[str, Counter[str]] = {}
    genders: Counter[str] = Counter()
    prices: list[float] = []
    count = 0
    for item in items:
        count += 1
        first[item.category_l1] += 1
        second.setdefault(item.category_l1, Counter())[item.category_l2] += 1
        if item.gender:
            genders[item.gender] += 1
        if item.price is not None:
            prices.append(item.price)
    return Facets(
        items=count,
        categories=[
            Category(name=name, items=first[name], children=_counts(second[name])) for name in sorted(first) if name
        ],
        genders=_counts(genders),
        min_price=min(prices, default=None),
        max_price=max(prices, default=None),
    )


def _counts(counted: Counter[str]) -> list[CategoryCount]:
    return [CategoryCount(name=name, items=counted[name]) for name in sorted(counted) if name]
