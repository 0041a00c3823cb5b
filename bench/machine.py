"""What the figures were measured on."""

from __future__ import annotations

import platform
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import psutil

_LIBRARIES = ("torch", "faiss-cpu", "numpy", "redis", "feast", "fastapi", "uvicorn", "aiohttp", "dagster", "duckdb")


def machine() -> dict[str, str]:
    """Processor, cores, memory, system, versions, and the moment."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {
        "processor": _processor(),
        "cores": str(len(psutil.Process().cpu_affinity() or [])),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "gpu": _gpu(),
        "system": platform.platform(),
        "python": f"{platform.python_version()} ({_loop_ms():.0f} ms for the loop of bench/machine.py)",
        **versions,
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _loop_ms() -> float:
    """Processor time of a fixed piece of plain Python, in milliseconds, the best of five: builds of one version differ
    by half, and so do the services (docs/performance.md)."""

    class Sum:
        def __init__(self, start: int) -> None:
            self.start = start

        def plus(self, other: int) -> int:
            return self.start + other

    def loop() -> float:
        begun = time.process_time()
        for number in range(100_000):
            made = {"sum": Sum(number).plus(2), "parts": [number, 2]}
            str(made["sum"])
        return 1000 * (time.process_time() - begun)

    return min(loop() for _ in range(5))


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpu() -> str:
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "none"
