"""How near to the oracle of the built-in shop anybody could come who knows visitors by what they did alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from bench.report import Report
from bench.visitors import Events, Posterior
from cascade.data.generator import SIZES, Shop
from cascade.data.generator.contexts import DAY_S, device_codes
from cascade.data.generator.oracle import Oracle
from cascade.training import metrics

DAY = 6
"""the evaluation day of `small`, counted from 0"""
VISITORS, STEPS, SAMPLES = 1_200, 1_600, 48
SEED = 11


def run(report: Report) -> None:
    """The posterior's mean chances beside the oracle's."""
    torch.set_num_threads(1)
    visitors, steps = (300, 400) if report.quick else (VISITORS, STEPS)
    shop = Shop.create(SIZES["small"])
    everything = _events(shop)
    asked = _asked(everything, visitors)
    users = everything.visitor[asked].astype(np.int32)
    before = [np.arange(np.searchsorted(everything.visitor, user), row) for user, row in zip(users, asked, strict=True)]
    rows = np.concatenate(before)
    who = np.repeat(np.arange(len(asked)), [len(one) for one in before])
    known = Events(who, everything.item[rows], everything.device[rows], everything.timestamp[rows])
    recent = [everything.item[one].tolist() for one in before]
    moment = everything.device[asked].astype(np.int32), everything.timestamp[asked], recent
    first_day = int(everything.timestamp.min()) // DAY_S
    hidden = np.zeros((len(asked), len(shop.model.item)), bool)
    for row, met in enumerate(recent):
        hidden[row, met] = True
    answer = everything.item[asked]

    truth = _gain(Oracle(shop.model, first_day).probability(users, *moment), hidden, answer)
    chains = Posterior(shop, users, known, SEED)
    mean = np.zeros(hidden.shape, np.float32)
    half = steps * 2 // 5
    kept = np.linspace(half, steps - 1, SAMPLES).astype(int)
    places = np.arange(len(asked), dtype=np.int32)
    for step in range(steps):
        chains.step(step, tune=step < half)
        if step in kept:
            mean += Oracle(chains.model(), first_day).probability(places, *moment)
    found = _gain(mean, hidden, answer)

    draws = np.random.default_rng(SEED).integers(len(asked), size=(1_000, len(asked)))
    low, high = np.percentile(found[draws].mean(1) / truth[draws].mean(1), [2.5, 97.5])
    report.say(
        "The oracle knows each visitor's taste, price sensitivity and liked categories. Here they are known by what "
        "the visitor did before alone, and by age and gender, while every parameter of the shop is known exactly: the "
        f"mean of the true chances over {SAMPLES} draws of each visitor from the posterior (`bench/visitors.py`). One "
        f"row of each of {len(asked):,} visitors of `small`'s evaluation day whose item he had not met; items met are "
        "left out. No model can be expected to do better; one that has to learn the shop as well does worse."
    )
    note = f"95 % interval {low:.3f} to {high:.3f}"
    report.figure("ndcg@10 of the oracle", float(truth.mean()), "")
    report.figure("ndcg@10 attainable", float(found.mean()), "")
    report.figure("share", float(found.mean() / truth.mean()), "", note=note)


def _events(shop: Shop) -> Events:
    """All that everybody did up to the end of the day, by user and time."""
    tables = [shop.day_table(day) for day in range(DAY + 1)]
    user, item, device, time = (
        np.concatenate(parts)
        for parts in zip(
            *(
                (
                    _places(table.column("user_id"), shop.people.user_ids),
                    _places(table.column("item_id"), shop.catalog.item_ids),
                    device_codes(table.column("device_type").to_pylist()),
                    table.column("timestamp").to_numpy(),
                )
                for table in tables
            ),
            strict=True,
        )
    )
    order = np.lexsort((time, user))
    return Events(user[order], item[order], device[order], time[order])


def _places(column: pa.ChunkedArray, values: list[str]) -> NDArray[np.int64]:
    return np.asarray(pc.index_in(column, pa.array(values)), np.int64)


def _asked(events: Events, count: int) -> NDArray[np.int64]:
    """A row of the day of each of some visitors, with an item that he had not met."""
    opening = int(events.timestamp.min()) // DAY_S + DAY
    rows = np.flatnonzero(events.timestamp // DAY_S == opening)
    chosen: dict[int, int] = {}
    for row in np.random.default_rng(SEED).permutation(rows):
        user = int(events.visitor[row])
        start = np.searchsorted(events.visitor, user)
        if user not in chosen and events.item[row] not in events.item[start:row]:
            chosen[user] = int(row)
        if len(chosen) == count:
            break
    return np.array(sorted(chosen.values()), np.int64)


def _gain(chances: NDArray[np.float32], hidden: NDArray[np.bool_], answer: NDArray[np.integer]) -> NDArray[np.float64]:
    """NDCG@10 of each row."""
    best = np.argsort(-np.where(hidden, -1.0, chances), axis=1, kind="stable")[:, :10]
    return metrics.ndcg_at_k(metrics.hits_of(best, answer), 10)
