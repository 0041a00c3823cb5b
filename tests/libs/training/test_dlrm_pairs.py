"""The ranker over a grid, held to the ranker over rows: the same logits, the same gradients, the same loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from cascade.models import Dlrm, DlrmConfig
from cascade.models.matches import EventTensors
from cascade.training.dlrm_pairs import DlrmPairs
from cascade.training.dlrm_training import SAMPLERS, DlrmObjective, DlrmTraining

CONFIG = DlrmConfig((30, 4, 7, 5), (20, 5, 6, 4), (4,), 1, 1, 4)
CONFIGS = [
    CONFIG,
    replace(CONFIG, bottom=(), top=(), dim=8),
    replace(CONFIG, bottom=(16, 12), top=(8,), dim=4, user_cardinalities=(9,), user_continuous=0),
    replace(CONFIG, context_cardinalities=(), context_continuous=0, item_continuous=3, image_dim=5),
    replace(CONFIG, history_length=5, history_event_types=3),
    replace(CONFIG, history_length=5, history_event_types=3, share_kernels=0, count_kernels=1, top=(), dim=8),
    replace(CONFIG, history_length=5, history_event_types=3, attention_heads=2, attention_dim=3),
]


def columns(cardinalities: tuple[int, ...], rows: int) -> Tensor:
    if not cardinalities:
        return torch.empty(rows, 0, dtype=torch.int64)
    return torch.stack([torch.randint(0, size, (rows,)) for size in cardinalities], dim=1)


def doubles(rows: int, columns: int) -> Tensor:
    """In double precision no rounding turns a ReLU, which would change a gradient as a whole."""
    return torch.randn(rows, columns, dtype=torch.float64)


def sides(config: DlrmConfig, users: int, items: int) -> tuple[list[Tensor], list[Tensor]]:
    who = [columns(config.user_cardinalities, users), doubles(users, config.user_continuous)]
    where = [columns(config.context_cardinalities, users), doubles(users, config.context_continuous)]
    what = [columns(config.item_cardinalities, items), doubles(items, config.item_continuous)]
    return who + where, [*what, doubles(items, config.image_dim), doubles(items, config.text_dim)]


def events(config: DlrmConfig, users: int, length: int) -> EventTensors:
    """Items of few values, so that some agree; some events are not there."""
    there = torch.rand(users, length) < 0.7
    codes = torch.stack([columns(config.item_cardinalities, length) % 4 for _ in range(users)])
    types = torch.randint(0, max(config.history_event_types, 1), (users, length))
    return EventTensors(codes, types, torch.randint(1, 10**6, (users, length)), there)


def by_rows(
    model: Dlrm, who: list[Tensor], what: list[Tensor], squares: int, histories: EventTensors | None = None
) -> Tensor:
    """What `Dlrm.forward` says of every user of a square with every item of it."""
    m, n = len(who[0]) // squares, len(what[0]) // squares
    user = torch.arange(squares * m).view(squares, m, 1).expand(-1, -1, n).reshape(-1)
    item = torch.arange(squares * n).view(squares, 1, n).expand(-1, m, -1).reshape(-1)
    users, users_numbers, contexts, contexts_numbers = (part[user] for part in who)
    items, items_numbers, image, text = (part[item] for part in what)
    categorical = torch.cat([users, items, contexts], dim=1)
    continuous = torch.cat([users_numbers, items_numbers, contexts_numbers], dim=1)
    return model(categorical, continuous, image, text, histories, user).view(squares, m, n)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(CONFIGS), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_a_grid_has_the_logits_and_gradients_of_its_rows(
    config: DlrmConfig, squares: int, m: int, n: int, seed: int
) -> None:
    torch.manual_seed(seed)
    model = Dlrm(config).double()
    model.image_scale.factor.fill_(3.0)
    who, what = sides(config, squares * m, squares * n)
    pairs = DlrmPairs(model)
    histories = events(config, squares * m, seed % 4)  # of no event too
    grid = pairs(pairs.users(*who, histories=histories).grid(squares), pairs.items(*what).grid(squares))
    rows = by_rows(model, who, what, squares, histories)
    torch.testing.assert_close(grid, rows, rtol=1e-4, atol=1e-5)
    toward = torch.randn(squares, m, n)
    gradients = []
    for logits in (grid, rows):
        model.zero_grad()
        (logits * toward).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() == dict(model.named_parameters()).keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-4, msg=name)


def test_it_has_no_weights_of_its_own() -> None:
    model = Dlrm(CONFIG)
    assert {id(p) for p in DlrmPairs(model).parameters()} == {id(p) for p in model.parameters()}
    assert len(DlrmPairs(model).state_dict()) == len(model.state_dict())


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("negatives", ["in_batch", "mixed", "uniform"])
def test_the_objective_has_the_loss_of_its_pairs_one_by_one(make_world, negatives: str, weighed: bool) -> None:
    world = make_world(rows=300, skew=0.8)
    none = {"user_id_dropout": 0.0, "user_dropout": 0.0, "item_id_dropout": 0.0}
    training = DlrmTraining(negatives=negatives, alike_share=0.0, **none)
    torch.manual_seed(1)
    model = Dlrm(world.dlrm)
    weights = np.random.default_rng(3).uniform(0.5, 4, len(world.train)).astype(np.float32) if weighed else None
    train = replace(world.train, weight=weights)
    objective = DlrmObjective(model, train, None, world.items, training, torch.device("cpu"), 0)
    rows = np.arange(0, 200, 2)
    found = objective.loss(rows, np.random.default_rng(5))

    positives = world.train.item_position[rows].astype(np.int64)
    counts = np.bincount(world.train.item_position, minlength=len(world.items)) / len(world.train)
    sampler = SAMPLERS[negatives](training, counts)
    squares = sampler.squares(positives, 5, len(world.items), np.random.default_rng(5))
    shape = squares.labels.shape
    click = rows[np.broadcast_to(squares.clicks[:, :, None], shape)][squares.usable]
    item = np.broadcast_to(squares.items[:, None, :], shape)[squares.usable]
    user, context, table = world.train.user.take(click), world.train.context.take(click), world.items
    logits = model(
        torch.from_numpy(np.concatenate([user.categorical, table.categorical[item], context.categorical], axis=1)),
        torch.from_numpy(np.concatenate([user.continuous, table.continuous[item], context.continuous], axis=1)),
        torch.from_numpy(table.image[item]),
        torch.from_numpy(table.text[item]),
    )
    lift = sampler.log_lift(counts, 5)[item]
    labels = torch.from_numpy(squares.labels[squares.usable].astype(np.float32))
    each = F.binary_cross_entropy_with_logits(logits - torch.from_numpy(lift), labels, reduction="none")
    weight = torch.from_numpy((np.ones(len(world.train), np.float32) if weights is None else weights)[click])
    expected = (each * weight).sum() / weight.sum()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("negatives", ["in_batch", "uniform"])
def test_some_clicks_meet_their_own_kind_alone(make_world, negatives: str) -> None:
    """The loss of a batch is that of its other clicks, and of these among the items of their kind's group, which come
    by popularity whatever the others meet."""
    world = make_world(rows=300, skew=0.8)
    none = {"user_id_dropout": 0.0, "user_dropout": 0.0, "item_id_dropout": 0.0}
    torch.manual_seed(1)
    model = Dlrm(world.dlrm)
    block = world.block_of_item[world.train.item_position]
    groups = [np.flatnonzero(block == one)[:6] for one in range(4)]  # whatever the order, these are the groups
    others = np.setdiff1d(np.arange(300), np.concatenate(groups))[:36]
    rows = np.concatenate([*groups, others])

    def loss(some: np.ndarray, **alike: float) -> Tensor:
        training = DlrmTraining(negatives=negatives, **none, **alike)
        objective = DlrmObjective(model, world.train, None, world.items, training, torch.device("cpu"), 0)
        return objective.loss(some, np.random.default_rng(5))

    plain = loss(rows, alike_share=0.4, alike_weight=0.0)
    torch.testing.assert_close(plain, loss(others, alike_share=0.0))
    found = loss(rows, alike_share=0.4, alike_weight=0.5) - plain

    table, counts = world.items, np.bincount(world.train.item_position, minlength=len(world.items)) / len(world.train)
    lift = torch.from_numpy(np.log(np.maximum(counts * len(table), 1e-12)).clip(-5, 5).astype(np.float32))
    losses = []
    for group in groups:
        items = world.train.item_position[group]
        for place, click in enumerate(group):
            among = np.append(items[items != items[place]], items[place])  # its own last; met again it says nothing
            user, context = (part.take(np.full(len(among), click)) for part in (world.train.user, world.train.context))
            logits = model(
                *(
                    torch.from_numpy(np.concatenate(parts, axis=1))
                    for parts in (
                        (user.categorical, table.categorical[among], context.categorical),
                        (user.continuous, table.continuous[among], context.continuous),
                    )
                ),
                torch.from_numpy(table.image[among]),
                torch.from_numpy(table.text[among]),
            )
            losses.append(-torch.log_softmax(logits - lift[among], 0)[-1])
    torch.testing.assert_close(found, 0.5 * torch.stack(losses).mean(), rtol=1e-3, atol=1e-5)
