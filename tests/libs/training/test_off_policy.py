"""Estimates of what a release would earn: by hand, and on a generated shop, whose truth can be computed."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from cascade.data.generator import SIZES, Shop
from cascade.training.errors import EvaluationError
from cascade.training.off_policy import (
    ClickModel,
    Log,
    estimate,
    folds,
    plackett_luce,
    plackett_luce_mean,
    to_markdown,
)

NAN = float("nan")


def test_known_answers_of_single_items() -> None:
    # weights 2, 0.5, 1 and 0.5; clicks on the first, third and fourth
    log = Log(
        clicked=np.array([[1.0], [0], [1], [1]]),
        logged=np.array([[0.25], [0.5], [0.5], [0.5]]),
        target=np.array([[0.5], [0.25], [0.5], [0.25]]),
        user=np.arange(4),
        predicted=np.array([[0.5], [0.5], [0.5], [1.0]]),
        expected=np.full((4, 1), 0.6),
    )
    found = estimate(log)
    assert found["IPS"].value == pytest.approx((2 + 0 + 1 + 0.5) / 4)
    assert found["SNIPS"].value == pytest.approx(3.5 / 4.0)
    # 0.6 for each, corrected by 2 · 0.5, 0.5 · −0.5, 1 · 0.5 and 0.5 · 0
    assert found["DR"].value == pytest.approx(0.6 + (1.0 - 0.25 + 0.5 + 0) / 4)
    assert found["IPS"].effective == pytest.approx(4.0**2 / (4 + 0.25 + 1 + 0.25))
    error = np.std([2, 0, 1, 0.5], ddof=1) / 2
    assert found["IPS"].high - found["IPS"].value == pytest.approx(1.959964 * error, rel=1e-5)
    assert not found["IPS"].trusted


def test_known_answers_of_lists() -> None:
    clicked = np.array([[0.0, 1.0], [1.0, NAN]])
    logged = np.array([[0.5, 0.5], [0.5, NAN]])
    target = np.array([[0.25, 1.0], [0.25, NAN]])
    log = Log(clicked, logged, target, np.arange(2))
    # The second position weighs 0.5 · 2 if what is above matters, and 2 if it does not.
    assert estimate(log, assumption="cascade")["IPS"].value == pytest.approx((0.5 * 2 + 0.5) / 2)
    assert estimate(log, assumption="independent")["IPS"].value == pytest.approx((2 + 0.5) / 2)
    # Self-normalised by position: 0.5 / 1 of two lists, then the only second item was clicked, in half of the lists.
    assert estimate(log)["SNIPS"].value == pytest.approx(0.5 + 0.5 * 1)
    assert "DR" not in estimate(log)
    assert "| IPS | cascade | 0.7500 |" in to_markdown(list(estimate(log).values()))


def test_the_release_that_was_logged_earns_what_was_earned() -> None:
    rng = np.random.default_rng(0)
    clicked = (rng.random((500, 3)) < 0.2).astype(float)
    chance = rng.random((500, 3))
    log = Log(clicked, chance, chance, np.arange(500), np.full((500, 3), 0.3), np.full((500, 3), 0.3))
    for one in estimate(log).values():
        assert one.value == pytest.approx(clicked.sum(axis=1).mean())
        assert one.trusted


def test_lists_of_one_user_are_one_witness() -> None:
    rng = np.random.default_rng(1)
    clicked = (rng.random((200, 1)) < 0.5).astype(float)
    ones = np.ones((200, 1))
    apart = estimate(Log(clicked, ones, ones, np.arange(200)))["IPS"]
    copied = Log(np.tile(clicked, (5, 1)), np.tile(ones, (5, 1)), np.tile(ones, (5, 1)), np.tile(np.arange(200), 5))
    together = estimate(copied)["IPS"]
    assert together.high - together.low == pytest.approx(apart.high - apart.low)


def test_draws_without_replacement_have_the_chances_of_all_orders() -> None:
    weights = np.array([0.5, 0.3, 0.15, 0.05])
    values = np.array([1.0, 2.0, 5.0, -3.0])
    orders = np.array(list(permutations(range(4), 3)))
    logs = np.tile(np.log(weights), (len(orders), 1))
    chances = plackett_luce(logs, orders)
    assert chances.prod(axis=1).sum() == pytest.approx(1)
    first = orders[0]
    assert chances[0].tolist() == pytest.approx([0.5, 0.3 / 0.5, 0.15 / 0.2])
    means = plackett_luce_mean(logs, orders, np.tile(values, (len(orders), 1)))
    assert first.tolist() == [0, 1, 2]
    assert means[0].tolist() == pytest.approx([weights @ values, (0.6 + 0.75 - 0.15) / 0.5, (0.75 - 0.15) / 0.2])


def test_what_cannot_be_drawn_has_no_chance_and_takes_none() -> None:
    logs = np.log(np.array([[0.5, 0.5, 1e-300]]))
    logs[0, 2] = -np.inf
    assert plackett_luce(logs, np.array([[-1, 0, 2]]))[0].tolist() == pytest.approx([0, 0.5, 0])
    means = plackett_luce_mean(logs, np.array([[-1, 0, 1]]), np.array([[1.0, 0.0, 9.0]]))
    assert means[0].tolist() == pytest.approx([0.5, 0.5, 0.0])


def test_the_click_model_learns_position_and_probability() -> None:
    rng = np.random.default_rng(2)
    probability, position = rng.random(20_000), rng.integers(0, 5, 20_000)
    odds = probability / (1 - probability) * 0.5 / (1 + position)
    model = ClickModel(probability, position, rng.random(20_000) < odds / (1 + odds))
    assert model.predict(np.array([0.5]), 0)[0] == pytest.approx(0.5 / 1.5, abs=0.02)
    assert model.predict(np.array([0.5]), 3)[0] == pytest.approx(0.125 / 1.125, abs=0.02)
    assert ClickModel(np.array([0.5, 0.6]), np.array([0, 1]), np.zeros(2)).predict(np.array([0.9]), 0).tolist() == [0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logged": np.zeros((2, 1))}, "2 shown items have a propensity of 0"),
        ({"target": np.ones((2, 2))}, r"target has shape \(2, 2\)"),
        ({"user": np.arange(3)}, "3 users for 2 lists"),
    ],
)
def test_logs_that_say_nothing_are_refused(changes: dict, message: str) -> None:
    whole = {"clicked": np.ones((2, 1)), "logged": np.ones((2, 1)), "target": np.ones((2, 1)), "user": np.arange(2)}
    with pytest.raises(EvaluationError, match=message):
        Log(**{**whole, **changes})
    with pytest.raises(EvaluationError, match="'none' is unknown"):
        estimate(Log(**whole), assumption="none")
    with pytest.raises(EvaluationError, match="one user"):
        estimate(Log(**{**whole, "user": np.zeros(2, int)}))


ITEMS, LISTS, LENGTH, RUNS = 30, 1500, 3, 300


@pytest.fixture(scope="module")
def shop() -> tuple[np.ndarray, np.ndarray]:
    """Of 200 visits to the generated shop: what the visitor truly likes [V, ITEMS], and what is popular."""
    made = Shop.create(SIZES["tiny"])
    rng = np.random.default_rng(0)
    users = rng.choice(made.people.user_ids, 200)
    start = made.day_table(0).column("timestamp")[0].as_py()
    times = start + rng.integers(0, 5 * 86_400, 200)
    devices = rng.choice(np.array(["mobile", "desktop"]), 200).tolist()
    liked = made.click_probability(users.tolist(), None, devices, times, [[]] * 200)
    some = np.argsort(-liked.mean(axis=0))[:ITEMS]
    chosen = liked[:, some].astype(np.float64)
    return chosen, chosen.mean(axis=0)


def truth(target: np.ndarray, click: np.ndarray) -> float:
    """Expected clicks a list of three drawn without replacement, summed over all orders. target: [V, I] chances of the
    first draw; click: [V, I, 3]."""
    total = 0.0
    for weight, chance in zip(target, click, strict=True):
        pair = weight[:, None] * weight[None, :] / (1 - weight[:, None])
        np.fill_diagonal(pair, 0.0)
        rest = 1 - weight[:, None] - weight[None, :]
        np.fill_diagonal(rest, 1.0)
        third = weight * chance[:, 2]
        last = (pair * (third.sum() - third[:, None] - third[None, :]) / rest).sum()
        total += weight @ chance[:, 0] + (pair.sum(axis=0) * chance[:, 1]).sum() + last
    return total / len(target)


def test_intervals_hold_the_truth_at_their_stated_rate(shop: tuple[np.ndarray, np.ndarray]) -> None:
    liked, popular = shop
    share = np.maximum(liked / liked.sum(axis=1, keepdims=True), 1e-4)  # items that are not there yet
    # Looked at less the further down; liked items are clicked more, up to 0.6.
    click = 0.6 * (share / share.max(axis=1, keepdims=True))[:, :, None] * np.array([1.0, 0.7, 0.5])
    logging = np.log(popular / popular.sum())[None, :] * 0.5 + np.log(share) * 0.2
    candidate = np.log(share) * 0.6
    first = np.exp(candidate) / np.exp(candidate).sum(axis=1, keepdims=True)
    value = truth(first, click)

    rng = np.random.default_rng(1)
    held: dict[tuple[str, str], list[bool]] = {}
    widths: dict[str, list[float]] = {}
    for _ in range(RUNS):
        visit = rng.integers(0, len(liked), LISTS)
        keys = logging[visit] + rng.gumbel(size=(LISTS, ITEMS))
        drawn = np.argsort(-keys, axis=1)[:, :LENGTH]
        clicked = (rng.random(drawn.shape) < click[visit[:, None], drawn, np.arange(LENGTH)]).astype(float)
        model = first / first.max(axis=1, keepdims=True) * 0.4  # wrong, as models are
        expected = plackett_luce_mean(candidate[visit], drawn, model[visit])
        log = Log(
            clicked,
            plackett_luce(logging[visit], drawn),
            plackett_luce(candidate[visit], drawn),
            np.arange(LISTS),
            model[visit[:, None], drawn],
            expected,
        )
        for level in (0.8, 0.95):
            for name, one in estimate(log, level=level).items():
                held.setdefault((name, str(level)), []).append(one.low <= value <= one.high)
                widths.setdefault(name, []).append(one.high - one.low)
    # Three standard errors of a share of 300 runs.
    for (name, level), hits in held.items():
        stated = float(level)
        slack = 3 * np.sqrt(stated * (1 - stated) / RUNS)
        assert stated - slack <= np.mean(hits) <= stated + slack, (name, level, np.mean(hits))
    assert np.mean(widths["DR"]) < np.mean(widths["IPS"])
    assert folds(np.array([5, 5, 7]), 0).tolist() in ([True, True, False], [False, False, True])
