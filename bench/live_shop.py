"""A small shop that live traffic comes into: dataset, gateway's bundle, Feast's registry, and a features worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import httpx
import psutil
import pyarrow.parquet as pq

from cascade.data.generator import SIZES, Shop
from cascade.features.popularity import Popularity
from cascade.online.server import free_port
from cascade.store import ModelStore
from cascade.store.artifacts import GatewayArtifacts

REPOSITORY = Path(__file__).parents[1]
START_LIMIT_S = 120.0

# The definitions take their paths from the settings when they are imported: hence a process of its own.
_APPLY = """
import pyarrow as pa, pyarrow.parquet as pq
from cascade.features.point_in_time import ONLINE_SCHEMA
from cascade.online.feast_config import feature_store
from cascade.settings import Settings
from feature_repo import definitions

folder = Settings().feast_dir.absolute()
(folder / "offline").mkdir(parents=True)
profile = pa.schema([("user_id", pa.string()), ("age", pa.float64()), ("gender", pa.string()), ONLINE_SCHEMA[2]])
pq.write_table(profile.empty_table(), folder / "offline" / "user_profile.parquet")
pq.write_table(ONLINE_SCHEMA.empty_table(), folder / "offline" / "user_activity.parquet")
store = feature_store(folder / "registry.db", "redis://127.0.0.1:1/0")
store.apply([definitions.user, definitions.user_profile, definitions.user_activity, definitions.activity_push])
"""


@dataclass(frozen=True)
class LiveShop:
    """The `small` shop's visitors and catalog below one folder; `make` writes them."""

    folder: Path

    @property
    def dataset(self) -> Path:
        """Where the worker writes Parquet."""
        return self.folder / "shop"

    @property
    def registry(self) -> Path:
        """Feast's; the offline files lie in `offline` beside it."""
        return self.folder / "feast" / "registry.db"

    def make(self) -> tuple[list[str], list[str]]:
        """Write it all; returns the ids of its users and items."""
        made = Shop.create(SIZES["small"])
        users, items = made.people.table, made.catalog.table
        self.dataset.mkdir(parents=True)
        pq.write_table(users, self.dataset / "users.parquet")
        pq.write_table(items, self.dataset / "items.parquet")
        models = ModelStore(self.folder / "models")
        bundle = GatewayArtifacts.from_catalog(items, Popularity((), {}, {}))
        models.set_alias(
            "gateway", "stable", models.write("gateway", bundle.save, training_days=[date(2026, 1, 5)]).version
        )
        environment = {**os.environ, "CASCADE_STATE_DIR": str(self.folder), "PYTHONWARNINGS": "ignore"}
        subprocess.run([sys.executable, "-c", _APPLY], env=environment, check=True, cwd=REPOSITORY, capture_output=True)
        return users.column("user_id").to_pylist(), items.column("item_id").to_pylist()


class Worker:
    """`python -m services.features`, ready."""

    def __init__(self, process: subprocess.Popen[bytes], http: httpx.Client) -> None:
        self._process = process
        self._http = http

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, by its whole name."""
        lines = self._http.get("/metrics").text.splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}

    def processor_s(self) -> float:
        """Processor time it has used."""
        used = psutil.Process(self._process.pid).cpu_times()
        return float(used.user + used.system)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stopped meanwhile, so that work gathers."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def features_worker(shop: LiveShop, redis_url: str, **settings: object) -> Iterator[Worker]:
    """A worker over the shop, with these settings; it is ended in order."""
    port = free_port()
    values = {
        "redis_url": redis_url, "dataset": shop.dataset, "model_store": shop.folder / "models",
        "feast_registry": shop.registry, "port": port, "log_level": "error", **settings,
    }  # fmt: skip
    environment = {f"CASCADE_FEATURES_{name.upper()}": str(value) for name, value in values.items()}
    with (shop.folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.features"],
            env={**os.environ, **environment}, stdout=log, stderr=log, cwd=REPOSITORY,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            _wait_until_ready(http, process, shop.folder / "worker.log")
            yield Worker(process, http)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(http: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit and process.poll() is None:
        try:
            if http.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.1)
    raise RuntimeError(f"the features worker did not become ready; end of its log:\n{log.read_text()[-2000:]}")
