"""What the catalog can be narrowed by, and that each count is what browsing finds."""

from __future__ import annotations

from services.gateway.catalog import Catalog, ItemQuery
from services.gateway.facets import facets_of


def test_counts_are_what_browsing_finds(catalog):
    facets = catalog.facets
    assert facets.items == len(catalog) == 30
    assert [one.name for one in facets.categories] == ["hats", "shoes"]
    for category in facets.categories:
        assert catalog.page(ItemQuery(category_l1=category.name), 0, 1)[1] == category.items
        assert sum(child.items for child in category.children) == category.items
        for child in category.children:
            found = catalog.page(ItemQuery(category_l1=category.name, category_l2=child.name), 0, 1)
            assert found[1] == child.items
    assert [(one.name, one.items) for one in facets.genders] == [("f", 15)]
    assert (facets.min_price, facets.max_price) == (0, 29)


def test_an_empty_catalog():
    facets = Catalog({}, with_images=False).facets
    assert (facets.items, facets.categories, facets.min_price) == (0, [], None)
    assert facets_of([]) == facets


async def test_over_http(client):
    facets = (await client.get("/v1/facets")).json()
    assert facets["items"] == 30
