"""Every asset's time and peak memory at `small` and at `seed` size, from generation to bundles.

The build is the one that `cascade up` runs: `python -m orchestration.build`, with a Redis beside it. Each asset notes
what it took in its provenance file, and this reads the notes; so a state folder that is there already, from an earlier
run of this area or of the build, is read and not built again. `CASCADE_BENCH_STATES` names the folder that holds the
state folders `small` and `seed`; without it they lie in `.cascade/bench/pipeline`. What is not whole there is made
whole (`seed`: up to half an hour). A quick run leaves `seed` out unless it is whole.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import dagster as dg

from bench.figures import shown
from bench.report import Report
from cascade.online.server import RedisServer, free_port
from cascade.settings import Settings
from orchestration.graph import base_assets
from orchestration.provenance import Provenance
from orchestration.workspace import Workspace

SIZES = ("small", "seed")
STATES = "CASCADE_BENCH_STATES"
LIMIT_S = 3 * 3600
LEAST_S = 0.5
"""Assets that take less than this at `seed` size have no exponent: it would be noise."""


@dataclass(frozen=True)
class Cost:
    """What one asset took: wall and processor seconds, and the process's highest resident set in MiB."""

    seconds: float
    processor_seconds: float | None
    peak_mb: float


@dataclass(frozen=True)
class Built:
    """One size's build. span_s: from the start of its first asset to the end of its last; None: made in pieces."""

    interactions: int
    assets: dict[str, Cost]
    span_s: float | None

    @property
    def seconds(self) -> float:
        """Of all assets together."""
        return sum(cost.seconds for cost in self.assets.values())

    @property
    def processor_seconds(self) -> float | None:
        """Likewise; None where an older build did not note it."""
        spent = [cost.processor_seconds for cost in self.assets.values()]
        return None if None in spent else sum(one for one in spent if one is not None)

    @property
    def peak_gb(self) -> float:
        """The highest of all assets, in GiB."""
        return max(cost.peak_mb for cost in self.assets.values()) / 1024


def run(report: Report) -> None:
    """Both sizes, side by side."""
    warnings.simplefilter("ignore", dg.BetaWarning)
    root = Path(os.environ.get(STATES) or ".cascade/bench/pipeline").absolute()
    built = {}
    for size in SIZES:
        settings = _settings(root / size, size)
        if not _whole(settings) and not (report.quick and size == "seed"):
            _build(settings)
        if _whole(settings):
            built[size] = _read(settings)
    report.say(
        "The built-in shop from nothing to released bundles, all assets one after another in one process of two "
        "threads. Time is what each asset noted of itself; memory is the process's highest resident set while the "
        "asset was made, so that it holds what earlier ones left behind, Python with all its libraries first of all "
        "(about 0.9 GiB). Checks and Dagster's own work between assets are in the span, not in the assets.",
        "What was tried to make trainings faster, and what it did to their quality: docs/performance.md.",
    )
    for size, one in built.items():
        _figures(report, size, one)
    if not report.quick:
        _a_day(report, root)
    if len(built) == len(SIZES):
        _compare(report, *(built[size] for size in SIZES))
    else:
        report.say("`seed` was left out: this was a quick run, and no `seed` build lies there yet.")


def _figures(report: Report, size: str, built: Built) -> None:
    at_seed = size == "seed"
    note = f"{built.interactions:,} interactions"
    report.figure(f"{size}.total", built.seconds / 60, "min", at_most=30 if at_seed else None, note=note)
    if built.span_s is not None:
        report.figure(f"{size}.span", built.span_s / 60, "min", note="first asset's start to last one's end")
    if built.processor_seconds is not None:
        report.figure(f"{size}.processor", built.processor_seconds / 60, "min", note="of all threads")
    report.figure(f"{size}.peak", built.peak_gb, "GiB", at_most=8 if at_seed else None)
    for name, cost in sorted(built.assets.items()):
        report.figure(f"{size}.{name}", cost.seconds, "s")


def _a_day(report: Report, folder: Path) -> None:
    """A day of a million rows, by the tool that measures it alone, in a process of its own."""
    tool, note = Path(__file__).with_name("fine_tuning.py"), folder / "fine_tuning.json"
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(tool), "--json", str(note)], check=True, timeout=LIMIT_S)
    found = json.loads(note.read_text())
    report.figure(
        "fine_tuning.total",
        found["seconds"],
        "s",
        at_most=found["target_seconds"],
        note=f"a day of {found['rows_of_the_day']:,} rows, {found['rows_learned']:,} learned with the replay",
    )
    report.figure("fine_tuning.processor", found["processor_seconds"], "s", note="of all threads")
    report.figure("fine_tuning.peak", found["peak_mb"] / 1024, "GiB")
    report.say("A day's fine-tuning (`python bench/fine_tuning.py`), stage by stage:")
    report.table(
        ["stage", "seconds", "processor seconds", "peak MiB"],
        [
            [stage, f"{cost['seconds']:.1f}", f"{cost['processor_seconds']:.1f}", f"{cost['peak_mb']:,.0f}"]
            for stage, cost in found["stages"].items()
        ],
    )


def _compare(report: Report, small: Built, seed: Built) -> None:
    growth = seed.interactions / small.interactions
    report.say(
        f"Growth is the exponent e of time ~ interactions^e between the two sizes ({growth:,.0f} times the "
        f"interactions; 60 times the users, the same catalog): 1 is linear, 0 does not depend on them. Assets that "
        f"take less than {LEAST_S} s have none."
    )
    names = sorted(seed.assets, key=lambda name: -seed.assets[name].seconds)
    rows = []
    for name in names:
        one, two = small.assets[name], seed.assets[name]
        worth = two.seconds >= LEAST_S and one.seconds > 0
        exponent = f"{math.log(two.seconds / one.seconds) / math.log(growth):.2f}" if worth else ""
        rows.append(
            [
                f"`{name}`",
                *(f"{value:.1f}" for value in (one.seconds, two.seconds)),
                *("" if cost.processor_seconds is None else f"{cost.processor_seconds:.1f}" for cost in (one, two)),
                exponent,
                *(f"{value:,.0f}" for value in (one.peak_mb, two.peak_mb)),
                f"{100 * two.seconds / seed.seconds:.0f} %",
            ]
        )
    report.table(
        [
            "asset", "small, s", "seed, s", "small, processor s", "seed, processor s", "growth",
            "small, peak MiB", "seed, peak MiB", "share of seed",
        ],
        rows,
    )  # fmt: skip
    with report.plot("assets", "seconds", "", "Seconds of each asset") as axes:
        axes.figure.set_size_inches(7, 0.25 * len(names) + 1)
        places = range(len(names))
        for shift, label, built in ((0.2, "small", small), (-0.2, "seed", seed)):
            axes.barh([n + shift for n in places], [built.assets[name].seconds for name in names], 0.4, label=label)
        axes.set_yticks(list(places), names, fontsize=7)
        axes.invert_yaxis()
        axes.set_xscale("log")
    late, large = seed.seconds / 60 - 30, seed.peak_gb - 8
    if late > 0:
        first = ", ".join(f"`{name}` {shown(seed.assets[name].seconds)} s" for name in names[:5])
        report.say(f"`seed` missed its 30 minutes by {late:.1f}. Most of the time goes to {first}.")
    if large > 0:
        worst = max(seed.assets, key=lambda name: seed.assets[name].peak_mb)
        report.say(f"`seed` missed its 8 GiB by {large:.1f}, in `{worst}`.")


def _settings(state: Path, size: str) -> Settings:
    """Those of the environment, but for the shop and what lies outside the state folder."""
    given = {"state_dir": state, "shop_size": size, "shop": None, "redis_url": None, "model_store": None}
    return Settings(_env_file=None, **given)  # type: ignore[call-arg, arg-type]


def _workspace(settings: Settings) -> Workspace:
    return Workspace(settings, Provenance(base_assets(settings), settings))


def _names(workspace: Workspace) -> list[str]:
    return [key.to_user_string() for key in workspace.provenance.ordered()]


def _whole(settings: Settings) -> bool:
    """Whether every asset is there and made of what this code would make it of."""
    workspace = _workspace(settings)
    return all(workspace.is_current(name) for name in _names(workspace))


def _build(settings: Settings) -> None:
    """What `cascade up` does before it serves; the Redis ends with it."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    print(f"building {settings.shop_size} in {settings.state_dir}", flush=True)
    with RedisServer(settings.redis_dir, free_port(), appendfsync=settings.redis_appendfsync) as server:
        elsewhere = ("CASCADE_SHOP", "CASCADE_REDIS_URL", "CASCADE_MODEL_STORE")
        environment = {name: value for name, value in os.environ.items() if name not in elsewhere}
        environment |= {
            "CASCADE_STATE_DIR": str(settings.state_dir),
            "CASCADE_SHOP_SIZE": settings.shop_size,
            "CASCADE_REDIS_PORT": str(server.port),
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        # Started in the state folder, where no `.env` adds settings of its own.
        command = [sys.executable, "-m", "orchestration.build"]
        subprocess.run(command, env=environment, check=True, timeout=LIMIT_S, cwd=settings.state_dir)


def _rows(folder: Path) -> int:
    """Of all days, as the asset noted them: a file a day, called by it."""
    return sum(int(day.read_text()) for day in folder.glob("????-??-??"))


def _read(settings: Settings) -> Built:
    workspace = _workspace(settings)
    notes = {name: workspace.recorded(name) for name in _names(workspace)}
    assets = {
        name: Cost(note["seconds"], note.get("processor_seconds"), note["peak_memory_mb"])
        for name, note in notes.items()
    }
    runs = {note["run_id"] for note in notes.values()}
    ends = {name: datetime.fromisoformat(note["made"]).timestamp() for name, note in notes.items()}
    first = min(ends[name] - assets[name].seconds for name in notes)
    return Built(
        _rows(workspace.folder("interactions")), assets, max(ends.values()) - first if len(runs) == 1 else None
    )
