"""Browsing and searching the catalog."""

import pytest

from services.gateway.catalog import Catalog, ItemQuery


def numbers(catalog, **query):
    found, total = catalog.page(ItemQuery(**query), 0, 100)
    assert len(found) == total
    return [int(item.item_id[-2:]) for item in found]


def test_items_keep_the_catalogs_order(catalog):
    assert numbers(catalog) == list(range(30))
    assert len(catalog) == 30
    assert "item-07" in catalog
    assert catalog.first_id() == "item-00"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"category_l1": "hats", "max_price": 7}, [1, 3, 7]),  # item-05 has no price
        ({"category_l2": "style-0", "min_price": 20}, [21, 24, 27]),
        ({"gender": "f", "q": "hat wool"}, [11, 13]),
        ({"q": "CREME 12"}, [12]),
        ({"q": "crème 12"}, [12]),
        ({"q": "no such thing"}, []),
        ({"min_price": 3, "max_price": 4}, [3, 4]),
        ({"min_price": 5, "max_price": 4}, []),
        ({"q": "   "}, list(range(30))),
    ],
)
def test_filters_narrow_together(catalog, query, found):
    assert numbers(catalog, **query) == found


def test_pages_fit_together(catalog):
    pages = [catalog.page(ItemQuery(), offset, 7) for offset in range(0, 42, 7)]
    assert [item.item_id for page, _ in pages for item in page] == [f"item-{number:02}" for number in range(30)]
    assert {total for _, total in pages} == {30}


def test_pictures_have_a_path_that_survives_a_url(catalog):
    assert catalog.get("item-00").image == "/images/pictures/0%20a.png"
    assert catalog.get("item-03").image is None


def test_no_pictures_where_none_are_served():
    row = {"item_id": "a", "title": "t", "image": "a.png", "price": 1}
    item = Catalog({"a": row}, with_images=False).get("a")
    assert item.image is None
    assert (item.price, item.description, item.gender) == (1.0, "", None)


def test_split_keeps_order(catalog):
    assert catalog.split(["x", "item-02", "y", "item-01"]) == (["item-02", "item-01"], ["x", "y"])


def test_empty_catalog():
    catalog = Catalog({}, with_images=True)
    assert catalog.page(ItemQuery(), 0, 10) == ([], 0)
    assert catalog.first_id() is None
