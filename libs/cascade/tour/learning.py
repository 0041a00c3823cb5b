"""The chapter about learning: a real Dagster run of the next day, its gates, and what serves afterwards."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from cascade.data.contract import Dataset
from cascade.settings import Settings
from cascade.store import ModelStore
from cascade.store.errors import BundleRefused
from cascade.store.model_store import STABLE
from cascade.tour.dagster import Dagster, Run
from cascade.tour.guide import Guide, add_row, new_table

JOB = "fine_tuning"
SERVICES = ("retrieval", "ranker")
_POLL_S = 1.0


@dataclass(frozen=True)
class Day:
    """The day to learn. again: whether it has been learned already, so that the same version comes out."""

    day: date
    rows: int
    again: bool


def next_day(settings: Settings, store: ModelStore) -> Day | None:
    """The earliest complete day after all that any version has learned or was evaluated on, else the last of them.

    None where no day comes after the full training. A complete day is one to which nothing comes any more.
    """
    dataset = Dataset(settings.dataset_dir)
    days = dataset.days()
    ended = (datetime.now(UTC) - timedelta(minutes=settings.day_grace_minutes)).date()
    complete = [day for day in days if day < max(days) or day < ended]
    known, learned = set(), set()
    for version in store.versions("ranker"):
        try:
            manifest = store.manifest("ranker", version)
        except BundleRefused:
            continue
        known |= {*manifest.training_days, *manifest.evaluation_days}
        if manifest.gates is not None:  # asked of a day's fine-tuning alone
            learned.add(max(manifest.training_days))
    later = [day for day in complete if not known or day > max(known)]
    if later:
        return Day(later[0], _rows(dataset, later[0]), again=False)
    again = [day for day in complete if day in learned]
    return Day(again[-1], _rows(dataset, again[-1]), again=True) if again else None


@dataclass(frozen=True)
class Learning:
    """The chapter. Its versions stay: what was learned is learned."""

    guide: Guide
    settings: Settings
    store: ModelStore
    dagster: Dagster

    def run(self) -> None:
        """Ask, run, tell. Raises DagsterSilent."""
        guide = self.guide
        guide.chapter(
            "A day is learned",
            "Every day both models go on from the day before: a short training, gates against what serves, a release.",
        )
        day = next_day(self.settings, self.store)
        if day is None:
            guide.say(
                "The shop has no day after those of the full training; the built-in one keeps its last days for this."
            )
            return
        if day.again:
            guide.say(f"All days are learned; {day.day} again gives the same version to the digit.")
        if not guide.agrees(
            f"Run the job `{JOB}` for {day.day} ({day.rows:,} interactions)? A minute or more; its versions stay."
        ):
            self._by_hand(day)
            return
        before = {service: self.store.alias(service, STABLE) for service in SERVICES}
        versions = {service: set(self.store.versions(service)) for service in SERVICES}
        began = time.monotonic()
        run = self._followed(self.dagster.launch(JOB, day.day.isoformat()))
        guide.say(
            f"The run ended with {run.status} after {time.monotonic() - began:.0f} s: {self.dagster.page(run.run_id)}"
        )
        for service in SERVICES:
            self._told(service, before[service], versions[service])
        guide.look(
            "Dagster's page: the run's steps, each asset's losses and the gates' plots; the Models page: versions."
        )
        self._by_hand(day)

    def _followed(self, run_id: str) -> Run:
        """Wait until the run has ended, naming each step as it begins."""
        told: set[str] = set()
        with self.guide.waiting("Dagster is at work …"):
            while True:
                run = self.dagster.run(run_id)
                for step in run.begun:
                    if step not in told:
                        told.add(step)
                        self.guide.say(f"  {step}")
                if run.ended:
                    return run
                time.sleep(_POLL_S)

    def _told(self, service: str, before: str | None, known: set[str]) -> None:
        now = self.store.alias(service, STABLE)
        made = sorted(set(self.store.versions(service)) - known)
        for version in made:
            gates = self.store.manifest(service, version).gates or {}
            self.guide.table(_gates_table(f"{service} {version}: {_verdict(gates)}", gates))
        if now != before:
            self.guide.say(
                f"{service}: {now} serves, before it {before}. `cascade models rollback {service}` takes it back."
            )
        elif made:
            self.guide.say(f"{service}: {now} serves as before; {made[-1]} is kept.")
        else:
            self.guide.say(f"{service}: no new version; {now} serves as before.")

    def _by_hand(self, day: Day) -> None:
        self.guide.by_hand(
            f"Dagster's page {self.dagster.url}: Jobs, {JOB}, Materialize, partition {day.day}",
            "cascade models list ranker",
        )


def _verdict(gates: dict[str, Any]) -> str:
    return "the gates let it pass" if gates.get("passed") else "the gates refused it"


def _gates_table(title: str, gates: dict[str, Any]) -> Any:
    table = new_table(title, "gate", "slice", "before", "after", "may be worse by", "")
    for gate in gates.get("gates", ()):
        if gate.get("passed") is not None:
            add_row(
                table,
                gate["metric"],
                gate["slice"],
                f"{gate['stable']:.4f}",
                f"{gate['candidate']:.4f}",
                f"{gate['tolerance']:.4f}",
                "passed" if gate["passed"] else "failed",
            )
    return table


def _rows(dataset: Dataset, day: date) -> int:
    import pyarrow.parquet as pq

    return sum(int(pq.read_metadata(path).num_rows) for path in dataset.interaction_files([day]))
