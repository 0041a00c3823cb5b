"""`python bench/gpu.py`: the ranker and the query tower on a GPU, held to the CPU's answers and timed.

Needs torch, NumPy and this checkout, nothing installed. Without a GPU it says so, runs the same code on the CPU's
tensors, holds that to the plain network, and ends well.

--items N      items of the random catalog (100,000)
--repeats N    timed repeats of each batch (20)
--batches N …  requests in a batch (1 16 256)
--json PATH    write the figures there too
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
if sys.path[0] == str(Path(__file__).resolve().parent):
    sys.path[0] = str(ROOT)  # else the bench's modules would hide others of their names
sys.path.insert(0, str(ROOT / "libs"))

from cascade.models.dlrm import Dlrm, DlrmConfig  # noqa: E402
from cascade.models.dlrm_gpu import GpuScorer  # noqa: E402
from cascade.models.dlrm_scorer import PackedScorer, PlainScorer  # noqa: E402
from cascade.models.matches import EventHistories  # noqa: E402
from cascade.models.two_tower import QueryTower, TwoTowerConfig  # noqa: E402

SEED = 7
CANDIDATES = 300
BATCHES = (1, 16, 256)
TOLERANCE = 1e-3
"""largest relative difference between a GPU's float32 answers and the CPU's"""
USERS = 50_000
HISTORY, EVENT_TYPES = 50, 6
"""events of each request's visitor, and their types with the unknown one"""


def main() -> None:
    """Check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.manual_seed(SEED)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures: dict[str, float] = {}
    if device.type == "cuda":
        print(f"GPU: {torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
        figures["copy_gb_per_s"] = bandwidth = copy_bandwidth(device)
        print(f"memory copy, read and written: {bandwidth:,.0f} GB/s")
    else:
        bandwidth = None
        print(f"No GPU: torch {torch.__version__} on {platform.processor() or platform.machine()}.")
        print("Not run: the GPU's answers, CUDA graphs, pinned transfers, and every GPU timing. The GPU's code runs")
        print("on the CPU's tensors below; its times say nothing of a GPU.")
    config, items = catalog(asked.items)
    model = Dlrm(config).eval()
    towers = check_query_tower(device)
    scorers = {"plain on the CPU": PlainScorer(model, items), "packed on the CPU": PackedScorer(model, items)}
    if device.type == "cuda":
        scorers["GPU, kernel by kernel"] = GpuScorer(model, items, device, graphs=False)
    name = "GPU" if device.type == "cuda" else "the GPU's code on the CPU"
    scorers[name] = gpu = GpuScorer(model, items, device)
    print(
        f"\n{asked.items:,} items: {gpu.nbytes / 1e6:,.0f} MB precomputed, {gpu.nbytes / asked.items:,.0f} bytes each"
    )
    worst = check_ranker(model, items, scorers, asked.batches)
    print(f"query tower, largest relative difference to the CPU: {towers:.1e}")
    print(f"ranker, largest relative difference to `Dlrm.predict` on the CPU: {worst:.1e}")
    figures |= {"query_tower.relative_error": towers, "ranker.relative_error": worst}
    for label, scorer in scorers.items():
        time_ranker(label, scorer, config, items, asked, gpu.nbytes // asked.items, bandwidth, figures)
    if asked.json is not None:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")
    if max(towers, worst) > TOLERANCE:
        raise SystemExit(f"a relative difference is above {TOLERANCE}")
    print(f"\nBoth agree within {TOLERANCE}.")


def catalog(items: int) -> tuple[DlrmConfig, SimpleNamespace]:
    """A network's configuration and random items for it."""
    sizes = {"history_length": HISTORY, "history_event_types": EVENT_TYPES}
    config = DlrmConfig((USERS + 1, 4, 7, 13), (items + 1, 13, 61, 4), (4,), 1, 1, 4, **sizes)
    rng = np.random.default_rng(SEED)
    categorical = np.stack([rng.integers(0, rows, items) for rows in config.item_cardinalities], axis=1)
    numbers = [rng.standard_normal((items, n), np.float32) for n in (1, config.image_dim, config.text_dim)]
    return config, SimpleNamespace(
        categorical=categorical.astype(np.int32), continuous=numbers[0], image=0.1 * numbers[1], text=0.1 * numbers[2]
    )


def requests(config: DlrmConfig, batch: int, items: SimpleNamespace, seed: int) -> tuple[Any, ...]:
    """A batch of random requests, as scorers take them, each with a history of random events."""
    rng = np.random.default_rng(seed)
    count, shape = len(items.categorical), (batch, HISTORY)
    events = EventHistories.gather(
        rng.integers(0, count, shape).astype(np.int32),
        rng.integers(0, EVENT_TYPES, shape).astype(np.int32),
        np.sort(rng.integers(1, 7 * 86_400, shape), axis=1),
        items.categorical,
    )

    def rows(cardinalities: tuple[int, ...]) -> Any:
        return np.stack([rng.integers(0, n, batch) for n in cardinalities], axis=1).astype(np.int32)

    return (
        rows(config.user_cardinalities),
        rng.standard_normal((batch, config.user_continuous), np.float32),
        rows(config.context_cardinalities),
        rng.standard_normal((batch, config.context_continuous), np.float32),
        [rng.choice(count, min(CANDIDATES, count), replace=False).astype(np.int32) for _ in range(batch)],
        events,
    )


def check_ranker(model: Dlrm, items: SimpleNamespace, scorers: dict[str, Any], batches: list[int]) -> float:
    """The largest relative difference of any scorer's probabilities to the plain network's."""
    plain, worst = PlainScorer(model, items), 0.0
    for batch in batches:
        asked = requests(model.config, batch, items, seed=batch)
        wanted = np.concatenate(plain.score(*asked))
        for scorer in scorers.values():
            worst = max(worst, relative(np.concatenate(scorer.score(*asked)), wanted))
    return worst


def check_query_tower(device: torch.device) -> float:
    """The largest relative difference between vectors of the device and of the CPU."""
    tower = QueryTower(TwoTowerConfig((USERS + 1, 4, 7, 13), 1, (2,), 1)).eval()
    rng = np.random.default_rng(SEED)
    rows = np.stack([rng.integers(0, n, 256) for n in tower.config.user_cardinalities], axis=1).astype(np.int32)
    numbers = rng.standard_normal((256, 1), np.float32)
    wanted = tower.predict(rows, numbers)
    return relative(tower.to(device).predict(rows, numbers), wanted)


def relative(found: Any, wanted: Any) -> float:
    """The largest difference, over the largest size of what was wanted in its row."""
    scale = np.abs(wanted) if wanted.ndim == 1 else np.abs(wanted).max(axis=1, keepdims=True)
    return float((np.abs(found - wanted) / np.maximum(scale, 1e-30)).max())


def time_ranker(
    label: str,
    scorer: Any,
    config: DlrmConfig,
    items: SimpleNamespace,
    asked: argparse.Namespace,
    bytes_per_item: int,
    bandwidth: float | None,
    figures: dict[str, float],
) -> None:
    """Print a line a batch size: transfers both ways are in the time."""
    print(f"\n{label}\n| requests × candidates | ms | candidates/s | share of the bandwidth floor |")
    print("| --- | --- | --- | --- |")
    key = "ranker." + "_".join(label.lower().replace(",", "").replace("'", "").split())
    for batch in asked.batches:
        inputs = [requests(config, batch, items, seed) for seed in range(4)]
        repeats = asked.repeats if batch < 256 or label.startswith("GPU") else min(3, asked.repeats)
        taken = timed(lambda number, inputs=inputs: scorer.score(*inputs[number % 4]), repeats)
        rows = batch * min(CANDIDATES, asked.items)
        # Each item's precomputed part is read once: the least that any way of ranking over them must move.
        floor = None if bandwidth is None else rows * bytes_per_item / bandwidth / 1e9
        share = "" if floor is None else f"{floor / taken:.1%}"
        print(f"| {batch} × {rows // batch} | {1000 * taken:.3f} | {rows / taken:,.0f} | {share} |", flush=True)
        figures[f"{key}.b{batch}.candidates_per_s"] = rows / taken
        if floor is not None:
            figures[f"{key}.b{batch}.share_of_bandwidth_floor"] = floor / taken


def timed(call: Callable[[int], object], repeats: int) -> float:
    """Median seconds a call; every call waits for its own answer."""
    for number in range(3):
        call(number)
    taken = []
    for number in range(repeats):
        started = time.perf_counter()
        call(number)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def copy_bandwidth(device: torch.device) -> float:
    """GB/s of a copy on the device, bytes read and bytes written."""
    source = torch.ones(2**28, device=device)  # 1 GiB
    target = torch.empty_like(source)
    for _ in range(3):
        target.copy_(source)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(10):
        target.copy_(source)
    torch.cuda.synchronize()
    return 10 * 2 * source.nbytes / (time.perf_counter() - started) / 1e9


if __name__ == "__main__":
    main()
