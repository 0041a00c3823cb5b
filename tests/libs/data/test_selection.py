from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cascade.data.generator import Shop, rng
from cascade.data.generator.selection import choose_items, draw, draw_shelves


def test_draws_follow_the_softmax() -> None:
    random = np.random.default_rng(0)
    utility = np.array([[0.0, 1.0, -2.0, 0.5]], np.float32)
    n = 200_000
    index = draw(np.repeat(utility, n, axis=0), random.random(n, np.float32))
    expected = np.exp(utility[0]) / np.exp(utility[0]).sum()
    share = np.bincount(index, minlength=4) / n
    assert (np.abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / n)).all()


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=6), st.floats(0, 1, width=32, exclude_max=True))
def test_draws_are_always_columns(utilities: list[float], uniform: float) -> None:
    index = draw(np.array([utilities], np.float32), np.array([uniform], np.float32))
    assert 0 <= index[0] < len(utilities)


def test_a_round_of_visits_meets_every_item_once(tiny_shop: Shop) -> None:
    model = tiny_shop.model
    items = model.items_on(0)
    visits = np.arange(2 * len(items), dtype=np.int32)
    chosen = choose_items(model, np.full(len(visits), 7, np.int32), np.zeros(len(visits), np.int32), visits)
    first, second = chosen[: len(items)], chosen[len(items) :]
    assert sorted(first) == sorted(second) == items.tolist()
    assert first.tolist() != second.tolist()


def test_the_first_two_of_the_race_follow_plackett_and_luce(tiny_shop: Shop) -> None:
    """Every user with the same vector: shares of the first item, and of the second given the first."""
    from dataclasses import replace

    users = 60_000
    model = tiny_shop.model
    vector = model.user[5]
    crowd = replace(model, user=np.repeat(vector[None], users, axis=0))
    items = model.items_on(1)
    weight = np.exp(model.item[items] @ vector)
    everyone = np.arange(users, dtype=np.int32)
    picks = [choose_items(crowd, everyone, np.full(users, 1, np.int32), np.full(users, k, np.int32)) for k in range(2)]

    expected = weight / weight.sum()
    share = np.array([(picks[0] == i).mean() for i in items])
    assert (np.abs(share - expected) < 5 * np.sqrt(expected / users)).all()

    top = int(np.argmax(weight))
    given_top = picks[0] == items[top]
    rest = np.where(np.arange(len(items)) == top, 0, weight)
    expected = rest / rest.sum()
    share = np.array([(picks[1][given_top] == i).mean() for i in items])
    assert (np.abs(share - expected) < 5 * np.sqrt((expected + 1e-4) / given_top.sum())).all()


def test_newcomers_stand_on_their_shelf_from_their_day_on(tiny_shop: Shop) -> None:
    model = tiny_shop.model
    style = int(np.flatnonzero(model.new_shelf >= 0)[0])
    n = 50_000
    styles = np.full(n, style, np.int32)
    uniform = np.random.default_rng(1).random(n, np.float32)
    day = int(model.drop_day[style])
    before, after = (draw_shelves(model, styles, d, uniform) for d in (day - 1, day))
    assert (before == model.first_shelf[style]).all()
    share = (after == model.new_shelf[style]).mean()
    assert abs(share - model.new_share[style]) < 0.01


def test_hashed_uniforms_are_uniform_and_repeatable() -> None:
    words = rng.scatter(np.arange(100_000))
    floats = rng.to_uniform(words)
    assert floats.dtype == np.float32
    assert floats.min() > 0
    assert floats.max() < 1
    counts, _ = np.histogram(floats, bins=20, range=(0, 1))
    assert np.abs(counts - 5000).max() < 5 * np.sqrt(5000)
    assert (rng.to_uniform(rng.scatter(np.arange(100_000))) == floats).all()
    assert rng.to_uniform(np.array([0, 2**64 - 1], np.uint64)).tolist() == [2.0**-25, 1 - 2.0**-24]


def test_purposes_have_streams_of_their_own() -> None:
    assert rng.generator(1, "a", 3).random() == rng.generator(1, "a", 3).random()
    streams = [rng.generator(1, "a", 3), rng.generator(1, "b", 3), rng.generator(1, "a", 4), rng.generator(2, "a", 3)]
    assert len({stream.random() for stream in streams}) == 4
    ids = rng.uuids(1, "ids", 500)
    assert ids == rng.uuids(1, "ids", 500)
    assert len(set(ids)) == 500
