"""The oracle against what visitors did: its probabilities must be the true ones.

Given the history, sums of (happened - probability) are martingales; over n events their standard scores are close to
normal. The seeds are fixed, so the limits are passed or not once and for all.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from cascade.data.generator import Shop, ShopConfig


@dataclass(frozen=True)
class Watched:
    """A shop and its events in order of time, with each one's probabilities [E, N]."""

    shop: Shop
    user: list[str]
    device: list[str | None]
    timestamp: NDArray[np.int64]
    chosen: NDArray[np.intp]
    history: list[list[str]]
    chance: NDArray[np.float32]

    def score(self, rows: NDArray[np.bool_], columns: NDArray[np.bool_]) -> float:
        """Standard score of how often these items were chosen in these events."""
        chance = self.chance[rows][:, columns].sum(axis=1, dtype=np.float64)
        happened = columns[self.chosen[rows]]
        return float((happened - chance).sum() / np.sqrt((chance * (1 - chance)).sum()))


@pytest.fixture(scope="module")
def watched() -> Watched:
    shop = Shop.create(ShopConfig(users=700, items=120, days=4, interactions_per_user_day=10, seed=5))
    table = pa.concat_tables(shop.day_table(n) for n in range(4))
    user, items = table.column("user_id").to_pylist(), table.column("item_id").to_pylist()
    device = table.column("device_type").to_pylist()
    timestamp = table.column("timestamp").to_numpy()
    met: dict[str, list[str]] = {}
    history = []
    for u, i in zip(user, items, strict=True):
        history.append(list(met.setdefault(u, [])))
        met[u].append(i)
    place = {i: n for n, i in enumerate(shop.catalog.item_ids)}
    chance = shop.click_probability(user, None, device, timestamp, history)
    return Watched(shop, user, device, timestamp, np.array([place[i] for i in items]), history, chance)


def one_hot(item: int, items: int) -> NDArray[np.bool_]:
    return np.arange(items) == item


def test_chances_are_chances(watched: Watched) -> None:
    assert len(watched.user) > 20_000
    assert (watched.chance >= 0).all()
    np.testing.assert_allclose(watched.chance.sum(axis=1), 1, atol=1e-4)
    assert watched.chance[np.arange(len(watched.user)), watched.chosen].min() > 0


def test_every_item_is_chosen_as_often_as_it_should_be(watched: Watched) -> None:
    everyone = np.ones(len(watched.user), bool)
    scores = np.array([watched.score(everyone, one_hot(i, 120)) for i in range(120)])
    assert np.abs(scores).max() < 4
    assert 0.6 < (scores**2).mean() < 1.5


def test_chances_hold_at_every_level_of_probability(watched: Watched) -> None:
    happened = np.zeros_like(watched.chance, bool)
    happened[np.arange(len(watched.user)), watched.chosen] = True
    edges = [0, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.4, 1.01]
    for low, high in itertools.pairwise(edges):
        inside = (watched.chance >= low) & (watched.chance < high)
        chance = watched.chance[inside].astype(np.float64)
        assert abs((happened[inside] - chance).sum() / np.sqrt((chance * (1 - chance)).sum())) < 4


def test_the_surprise_is_the_entropy(watched: Watched) -> None:
    chance = np.maximum(watched.chance.astype(np.float64), 1e-30)
    surprise = -np.log(chance[np.arange(len(chance)), watched.chosen])
    entropy = -(chance * np.log(chance)).sum(axis=1)
    variance = (chance * np.log(chance) ** 2).sum(axis=1) - entropy**2
    assert abs((surprise - entropy).sum() / np.sqrt(variance.sum())) < 4


@pytest.mark.parametrize(
    "slice_", ["mobile", "desktop", "no device", "night", "weekend-free", "new", "long", "last day"]
)
def test_categories_are_chosen_as_often_as_they_should_be_in_every_slice(watched: Watched, slice_: str) -> None:
    length = np.array([len(h) for h in watched.history])
    device = np.array([d or "" for d in watched.device])
    hour = watched.timestamp % 86_400 // 3600
    day = watched.timestamp // 86_400
    rows = {
        "mobile": device == "mobile",
        "desktop": device == "desktop",
        "no device": device == "",
        "night": (hour < 6) | (hour > 21),
        "weekend-free": (hour >= 9) & (hour < 12),
        "new": length == 0,
        "long": length > 40,
        "last day": day == day.max(),
    }[slice_]
    assert rows.sum() > 300
    category = watched.shop.catalog.style_category[watched.shop.catalog.style]
    for c in range(len(watched.shop.catalog.category_names)):
        assert abs(watched.score(rows, category == c)) < 4.2


def test_newcomers_are_chosen_as_often_as_they_should_be(watched: Watched) -> None:
    first_day = watched.shop.catalog.first_day
    day = watched.timestamp // 86_400 - watched.timestamp[0] // 86_400
    newcomers = first_day > 0
    assert (watched.chance[:, newcomers][day < first_day[newcomers].min()] == 0).all()
    assert abs(watched.score(day == day.max(), newcomers)) < 4


def test_what_the_visitor_has_just_met_carries_his_intent(watched: Watched) -> None:
    shop, user, style = watched.shop, watched.user[0], watched.shop.catalog.style
    category = shop.catalog.style_category[style]
    ids = np.array(shop.catalog.item_ids)
    members = ids[(category == category[0])]
    fresh, after = shop.click_probability([user] * 2, None, ["mobile"] * 2, watched.timestamp[:2], [[], members[:5]])
    assert after[category == category[0]].sum() > fresh[category == category[0]].sum()
    assert (after[np.isin(ids, members[:1])] < fresh[np.isin(ids, members[:1])]).all()


def test_columns_can_be_chosen_and_unknown_items_have_no_chance(watched: Watched) -> None:
    ids = watched.shop.catalog.item_ids
    columns = [ids[5], "unknown", ids[0], ids[5]]
    some = watched.shop.click_probability(
        watched.user[:3], columns, watched.device[:3], watched.timestamp[:3], [[]] * 3
    )
    whole = watched.shop.click_probability(watched.user[:3], None, watched.device[:3], watched.timestamp[:3], [[]] * 3)
    assert some.dtype == np.float32
    np.testing.assert_array_equal(some, np.stack([whole[:, 5], np.zeros(3), whole[:, 0], whole[:, 5]], axis=1))


def test_an_unknown_user_is_the_mean_of_the_population(watched: Watched) -> None:
    shop = watched.shop
    when = np.full(700, watched.timestamp[0])
    everyone = shop.click_probability(shop.people.user_ids, None, ["desktop"] * 700, when, [[]] * 700)
    unknown = shop.click_probability(["?"], None, ["desktop"], when[:1], [["not an item"]])[0]
    assert unknown.sum() == pytest.approx(1, abs=1e-4)
    mean = everyone.mean(axis=0)
    assert np.corrcoef(unknown, mean)[0, 1] > 0.95
    category = shop.catalog.style_category[shop.catalog.style]
    for c in range(len(shop.catalog.category_names)):
        assert unknown[category == c].sum() == pytest.approx(mean[category == c].sum(), abs=0.02)


def test_contexts_move_the_choice_of_a_new_visitor(watched: Watched) -> None:
    stamp = watched.timestamp[0] // 86_400 * 86_400
    morning, night = watched.shop.click_probability(
        ["?"] * 2, None, ["mobile", "desktop"], [stamp + 8 * 3600, stamp + 22 * 3600], [[]] * 2
    )
    assert np.abs(morning - night).sum() > 0.4
    assert set(np.argsort(-morning)[:10]) != set(np.argsort(-night)[:10])


def test_unequal_lengths_are_refused(watched: Watched) -> None:
    with pytest.raises(ValueError, match="2, 1, 1 and 1"):
        watched.shop.click_probability(["a", "b"], None, ["mobile"], [0], [[]])
