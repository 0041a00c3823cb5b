from __future__ import annotations

from cascade.features.top_category import top_category_of

DAY = 86_400


def test_the_category_met_most() -> None:
    assert top_category_of([("a", 10), ("b", 20), ("a", 30)], 40) == "a"


def test_ties_go_to_the_latest_then_to_the_first_in_order() -> None:
    assert top_category_of([("a", 10), ("b", 20)], 40) == "b"
    assert top_category_of([("b", 20), ("a", 20)], 40) == "a"


def test_the_window_is_half_open() -> None:
    at = 2 * DAY
    assert top_category_of([("a", at - DAY)], at) == "a"
    assert top_category_of([("a", at - DAY - 1)], at) is None
    assert top_category_of([("a", at)], at) is None
    assert top_category_of([("a", at - 1)], at) == "a"


def test_events_without_a_category_do_not_count() -> None:
    assert top_category_of([(None, 1), ("", 2), (None, 3), ("a", 1)], 4) == "a"
    assert top_category_of([], 4) is None


def test_events_weigh_by_their_type() -> None:
    history = [("a", 1, "view"), ("a", 2, "click"), ("a", 3, "view"), ("b", 1, "purchase")]
    assert top_category_of(history, 9) == "b"
    assert top_category_of(history, 9, {"purchase": 2}) == "a"
    assert top_category_of([("a", 1, "add_to_cart"), ("b", 2, "click"), ("b", 3, "wishlist")], 9) == "a"


def test_a_no_weighs_against_its_category() -> None:
    assert top_category_of([("a", 1, "add_to_cart"), ("b", 2, "click"), ("a", 3, "not_interested")], 9) == "b"
    assert top_category_of([("a", 1, "click"), ("a", 3, "not_interested")], 9) is None
    assert top_category_of([("a", 1, "purchase"), ("a", 3, "not_interested")], 9) == "a"
