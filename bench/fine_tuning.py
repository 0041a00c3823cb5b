"""How long a day of a million interactions takes to learn, and where the time goes.

    python bench/fine_tuning.py [--rows 1000000] [--folder FOLDER] [--json FILE]

A shop of 300,000 visitors and 2,465 items from the generator; the networks have their full size and random weights,
which costs the same as trained ones. The stages are those of Dagster's assets, by the same functions, settings and
numbers of threads. What the daily loop finds ready (the full training's rows, transforms, models and index) is prepared
before the clock starts. Dagster's own seconds between assets are not counted, and the day has no logged lists.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from cascade.data.contract import Dataset
from cascade.data.generator import SIZES, Shop
from cascade.features.history import histories_of_rows
from cascade.features.item_table import ItemTable
from cascade.features.masking import Masking
from cascade.features.point_in_time import training_rows
from cascade.features.seen import seen_in
from cascade.features.source import QueryLimits
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from cascade.index.build import build_index
from cascade.models import Dlrm, TwoTower
from cascade.settings import Settings
from cascade.store import ModelStore
from cascade.store.artifacts import RankerArtifacts, RetrievalArtifacts
from cascade.training.affinities import stack
from cascade.training.dlrm_training import DlrmTraining, dlrm_config
from cascade.training.fine_tuning import FineTuning, fine_tune_dlrm, fine_tune_two_tower
from cascade.training.gates import (
    RANKER_METRICS,
    RETRIEVAL_METRICS,
    Tolerances,
    judge,
    judged_rows,
    measure_ranker,
    measure_retrieval,
    slices_of,
)
from cascade.training.query_rows import two_tower_config
from cascade.training.replay import fine_tuning_rows, replayed_days, split_by_time
from cascade.training.validation import hold_out
from orchestration.measure import measured

TARGET_S = 180
DAYS = 4  # two that trained, one that evaluated, the new one
LIMITS = QueryLimits(memory="4GB")
SEED = 7


def main() -> None:
    """Prepare, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="interactions of the new day, about")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; kept, and used again")
    parser.add_argument("--json", type=Path, default=None, help="where to write what was found, too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        found = a_day(given.rows, given.folder or Path(aside))
    print(as_text(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


@dataclass(frozen=True)
class Ready:
    """What the daily loop finds: a shop, its full training's rows and models, and a day that none of them has seen."""

    settings: Settings
    dataset: Dataset
    day: date
    trained: list[date]
    learned: TrainingSet
    evaluated: TrainingSet
    towers: TwoTower
    retrieval: RetrievalArtifacts
    ranker: RankerArtifacts

    @classmethod
    def of(cls, rows: int, folder: Path) -> Ready:
        """With about `rows` interactions a day; in `folder`, where what is there is used again."""
        settings, dataset = Settings(_env_file=None), shop(rows, folder / "shop")
        days = dataset.days()
        train, evaluate, day = days[:2], days[2], days[3]
        seen = seen_in(dataset, train, limits=LIMITS)
        user = UserTransform.fit(seen.users, dataset.items().column("category_l1").to_pylist())
        item = ItemTransform.fit(dataset.items(), seen.item_ids.to_pylist())
        where = ContextTransform.fit(seen.devices)
        image, text = np.random.default_rng(SEED).normal(size=(2, dataset.items().num_rows, 64)).astype(np.float32) / 8
        items = ItemTable.build(dataset.items(), item, image, text)
        sets: dict[str, TrainingSet] = {}
        for name, some in (("train", train), ("evaluate", [evaluate])):
            path = folder / f"{name}.parquet"
            if not path.exists():
                training_rows(dataset, some, path, limits=LIMITS)
            sets[name] = encoded(path, settings, dataset, user, where, items, folder / f"{name}_set")
        torch.manual_seed(SEED)
        query = settings.training_query
        towers = TwoTower(two_tower_config(query, user, item, where)).eval()
        towers.query.candidate_fingerprint = towers.candidate.fingerprint()
        dlrm = Dlrm(dlrm_config(query, user, item, where, attention_heads=settings.training_attention_heads)).eval()
        learned, judged = hold_out(sets["train"], SEED)
        if judged is None:
            raise ValueError(f"{rows} rows a day leave nothing to judge by; give more")
        stack(dlrm, towers, learned, judged, items, DlrmTraining(), SEED)
        vectors = towers.candidate.predict(items.categorical, items.continuous, items.image, items.text)
        index, _ = build_index(vectors, source=towers.candidate.fingerprint())
        retrieval = RetrievalArtifacts(
            user, towers.query, index, items.item_ids, context_transform=where, item_vectors=vectors
        )
        ranker = RankerArtifacts(user, where, items, dlrm)
        return cls(settings, dataset, day, train, sets["train"], sets["evaluate"], towers, retrieval, ranker)


def encoded(
    path: Path,
    settings: Settings,
    dataset: Dataset,
    user: UserTransform,
    where: ContextTransform,
    items: ItemTable,
    folder: Path | None = None,
) -> TrainingSet:
    """Rows as the assets encode them: masked, with the histories that the models read."""
    histories = histories_of_rows(path, dataset, items.item_ids) if settings.training_query == "session" else None
    masking = Masking(SEED, settings.mask_share, settings.mask_share)
    return TrainingSet.build(
        path, user, where, items, histories=histories, masking=masking, weights=settings.click_weights, folder=folder
    )


def a_day(rows: int, folder: Path) -> dict[str, Any]:
    """Everything in `folder`; the stages' costs, and how much there was to do."""
    ready = Ready.of(rows, folder)
    settings, dataset, ranker = ready.settings, ready.dataset, ready.ranker
    fine_tuning = FineTuning().with_rates(settings.two_tower_fine_tuning_rate, settings.dlrm_fine_tuning_rate)
    threads = settings.training_threads
    stages: dict[str, dict[str, float]] = {}

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        with measured() as cost:
            yield
        # processor seconds tell on a machine that others use, too
        stages[stage] = {
            "seconds": cost.seconds,
            "processor_seconds": cost.cpu_seconds,
            "peak_mb": cost.peak_mb,
        }

    user, where, items = ranker.user_transform, ranker.context_transform, ranker.items
    with timed("daily_rows: point-in-time features (DuckDB)"):
        path = folder / "rows.parquet"
        stats = training_rows(dataset, [ready.day], path, limits=LIMITS)
    with timed("fine_tuning_set: split, histories, encode, mask, replay, save"):
        table = pq.read_table(path)
        held_out = split_by_time(np.asarray(table.column("timestamp"), np.int64), settings.holdout_share)
        kept = folder / "kept.parquet"
        pq.write_table(table.filter(pa.array(~held_out)), kept)
        new = encoded(kept, settings, dataset, user, where, items)
        chosen = replayed_days(ready.trained, settings.replay_days, SEED)
        to_learn = fine_tuning_rows(new, ready.learned, chosen, ready.evaluated, settings.replay_share, SEED)
        (folder / "set").mkdir(exist_ok=True)
        to_learn.save(folder / "set")
        to_learn = TrainingSet.load(folder / "set")
    with timed("fine_tuned_two_tower: one epoch"):
        towers, first = fine_tune_two_tower(
            ready.towers, to_learn, items, fine_tuning.two_tower, seed=SEED, threads=threads
        )
    judged = judged_rows(table.filter(pa.array(held_out)), [items], settings.gate_rows, SEED)
    slices = slices_of(judged, user, items)
    retrieval = replace(ready.retrieval, query_tower=towers.query)
    with timed("fine_tuned_two_tower: gates"):
        judge(
            ("stable", measure_retrieval(judged, ready.retrieval, slices, source=dataset)),
            ("tuned", measure_retrieval(judged, retrieval, slices, source=dataset)),
            slices, RETRIEVAL_METRICS, Tolerances(),
        )  # fmt: skip
    with timed("fine_tuned_dlrm: one epoch"):
        dlrm, second = fine_tune_dlrm(ranker.dlrm, to_learn, items, fine_tuning.dlrm, seed=SEED, threads=threads)
    tuned = RankerArtifacts(user, where, items, dlrm)
    with timed("fine_tuned_dlrm: gates"):
        judge(
            ("stable", measure_ranker(judged, ready.retrieval, ranker, slices, source=dataset)),
            ("tuned", measure_ranker(judged, ready.retrieval, tuned, slices, source=dataset)),
            slices, RANKER_METRICS, Tolerances(),
        )  # fmt: skip
    with timed("daily bundles: write, hash, verify"):
        store = ModelStore(folder / "models")
        store.write("retrieval", retrieval.save, training_days=[ready.day], lineage=retrieval.lineage)
        store.write("ranker", tuned.save, training_days=[ready.day], lineage=tuned.lineage)
    return {
        "rows_of_the_day": stats.rows,
        "rows_learned": len(to_learn),
        "rows_replayed": len(to_learn) - len(new),
        "rows_judged": len(judged),
        "steps": [first.steps, second.steps],
        "users": len(user.user_ids),
        "threads": threads,
        "stages": stages,
        "seconds": sum(stage["seconds"] for stage in stages.values()),
        "processor_seconds": sum(stage["processor_seconds"] for stage in stages.values()),
        "peak_mb": max(stage["peak_mb"] for stage in stages.values()),
        "target_seconds": TARGET_S,
    }


def as_text(found: dict[str, Any]) -> str:
    """A table of the stages, and whether the target was met."""
    total = found["seconds"]
    lines = [
        f"{found['rows_of_the_day']:,} rows of the day, {found['rows_learned']:,} learned from "
        f"({found['rows_replayed']:,} replayed), {found['rows_judged']:,} judged; {found['steps'][0]:,} and "
        f"{found['steps'][1]:,} steps on {found['threads']} threads; {found['users']:,} users",
        "| stage | seconds | share | processor seconds | peak MiB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for stage, cost in found["stages"].items():
        lines.append(
            f"| {stage} | {cost['seconds']:.1f} | {100 * cost['seconds'] / total:.0f} % | "
            f"{cost['processor_seconds']:.1f} | {cost['peak_mb']:,.0f} |"
        )
    lines.append(f"| all | {total:.1f} | | {found['processor_seconds']:.1f} | {found['peak_mb']:,.0f} |")
    verdict = "met" if total <= TARGET_S else f"missed by {total - TARGET_S:.0f} s"
    return "\n".join([*lines, f"Target of {TARGET_S} s: {verdict}."])


def shop(rows: int, folder: Path) -> Dataset:
    """The seed shop's visitors and catalog, as many days as are needed, without pictures."""
    config = replace(SIZES["seed"], days=DAYS, interactions_per_user_day=SIZES["seed"].interactions_per_user_day)
    config = replace(config, interactions_per_user_day=config.interactions_per_user_day * rows / 930_000)
    if not (folder / "interactions").is_dir():
        made = Shop.create(config)
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(made.people.table, folder / "users.parquet")
        pq.write_table(made.catalog.table, folder / "items.parquet")
        for day in config.dates():
            made.write_day(folder, day)
    return Dataset(folder)


if __name__ == "__main__":
    main()
