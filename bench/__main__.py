"""`python -m bench [AREA …] [--quick]`: measure, and write bench/results/.

Areas run one after another, each in a process of its own, so that none leaves memory or threads to the next.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from typing import Annotated

import typer

from bench.report import Report

AREAS = {
    "floor": "The floor: what this machine can do at all",
    "request_path": "A request, from the gateway's door to the last byte",
    "ablations": "What each choice on the request path is worth",
    "balancing": "Choosing a replica for every call",
    "stages": "Transforms, ranker and query tower, one thread",
    "catalog_scale": "Candidate indexes from ten thousand to a million items",
    "filter": "The Bloom filter of seen items",
    "online": "Features worker and Feast",
    "memory": "What a user and an item take in memory",
    "pipeline": "Every asset, at two sizes",
    "relevance": "The lists beside baselines', on folders of ids and timestamps",
    "targets": "The built-in shop's lists beside what is wanted of them",
    "attainable": "How near to the oracle anybody could come",
    "canary": "A canary of the ranker: one that is promoted, three that are rolled back",
}
"""Each is a module of this package with `run(report: Report) -> None`."""


def main(
    areas: Annotated[list[str] | None, typer.Argument(help=f"Which of {', '.join(AREAS)}; none: all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repeats.")] = False,
) -> None:
    """Measure the areas and write their pages."""
    chosen = areas or list(AREAS)
    for name in chosen:
        if name not in AREAS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(AREAS)}")
    if len(chosen) > 1:
        failed = [name for name in chosen if _apart(name, quick) != 0]
        if failed:
            raise SystemExit(f"these areas failed: {', '.join(failed)}")
        return
    started = time.perf_counter()
    report = Report(chosen[0], AREAS[chosen[0]], quick=quick)
    importlib.import_module(f"bench.{chosen[0]}").run(report)
    print(f"{report.write()} after {time.perf_counter() - started:.0f} s", flush=True)


def _apart(name: str, quick: bool) -> int:
    print(f"— {name}", flush=True)
    return subprocess.run([sys.executable, "-m", "bench", name, *(["--quick"] if quick else [])]).returncode


if __name__ == "__main__":
    typer.run(main)
