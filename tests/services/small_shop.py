"""A shop of sixty items with untrained models, and its four services in processes of their own."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import torch

from cascade.features.item_table import ItemTable
from cascade.features.popularity import Popularity
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from cascade.index.build import build_index
from cascade.models.dlrm import Dlrm, DlrmConfig
from cascade.models.two_tower import TwoTower, TwoTowerConfig
from cascade.online.server import free_port
from cascade.store import ModelStore
from cascade.store.artifacts import GatewayArtifacts, RankerArtifacts, RetrievalArtifacts

SERVICES = ("retrieval", "filter", "ranker", "gateway")
ITEMS, USERS = 60, 20
IDS = [f"i/{number}" for number in range(ITEMS)]


def write_models(root: Path) -> None:
    """Small untrained bundles of all services, each alias `stable`."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    people = pa.table(
        {
            "user_id": [f"u{number}" for number in range(USERS)],
            "age": [18 + number for number in range(USERS)],
            "gender": ["F" if number % 2 else "M" for number in range(USERS)],
        }
    )
    catalog = pa.table(
        {
            "item_id": IDS,
            "title": [f"Item {number}" for number in range(ITEMS)],
            "description": ["of wool"] * ITEMS,
            "category_l1": [("shoes", "dresses")[number % 2] for number in range(ITEMS)],
            "category_l2": [f"style{number % 5}" for number in range(ITEMS)],
            "price": [5.0 + number for number in range(ITEMS)],
            "gender": [("F", "M", None)[number % 3] for number in range(ITEMS)],
            "image": pa.array([None] * ITEMS, pa.string()),
        }
    )
    user = UserTransform.fit(people, ["shoes", "dresses"])
    item = ItemTransform.fit(catalog, IDS)
    context = ContextTransform.fit(pa.table({"device_type": ["mobile", "desktop"]}))
    image, text = (rng.standard_normal((ITEMS, 64)).astype(np.float32) for _ in range(2))
    table = ItemTable.build(catalog, item, image, text)
    towers = TwoTower(TwoTowerConfig(user.cardinalities, 1, item.cardinalities, 1)).eval()
    vectors = towers.candidate.predict(table.categorical, table.continuous, image, text)
    index, _ = build_index(vectors, source=towers.candidate.fingerprint(), threads=1)
    towers.query.candidate_fingerprint = towers.candidate.fingerprint()
    dlrm = Dlrm(DlrmConfig(user.cardinalities, item.cardinalities, context.cardinalities, 1, 1, 4)).eval()
    ranked = tuple((one, float(ITEMS - place)) for place, one in enumerate(IDS))
    bundles = {
        "retrieval": RetrievalArtifacts(user, towers.query, index, IDS),
        "ranker": RankerArtifacts(user, context, table, dlrm),
        "gateway": GatewayArtifacts.from_catalog(catalog, Popularity(ranked, {}, {})),
    }
    models = ModelStore(root)
    for service, parts in bundles.items():
        version = models.write(service, parts.save, training_days=[dt.date(2026, 1, 5)]).version
        models.set_alias(service, "stable", version)


def environment(store: Path, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """Of all four services, each on a free port; there is no feature store."""
    ports = {service: free_port() for service in SERVICES}
    values = {}
    for service, port in ports.items():
        prefix = f"CASCADE_{service.upper()}"
        values |= {
            f"{prefix}_PORT": str(port),
            f"{prefix}_REDIS_URL": redis_url,
            f"{prefix}_MODEL_STORE": str(store),
            f"CASCADE_GATEWAY_{service.upper()}_URL": f"http://127.0.0.1:{port}",
        }
    return {
        **values,
        "CASCADE_GATEWAY_FEAST_REGISTRY": str(tmp_path / "none.db"),
        # The machine may be slow; this is about answers, not about time.
        **{f"CASCADE_GATEWAY_{stage}_TIMEOUT_MS": "20000" for stage in ("RETRIEVAL", "FILTER", "RANKER", "WRITE")},
        "CASCADE_GATEWAY_DEADLINE_MS": "60000",
        "CASCADE_GATEWAY_OLDEST_S": "4000000000",
        "CASCADE_GATEWAY_CANDIDATES": "30",
        "OMP_NUM_THREADS": "1",
    }


def start(service: str, variables: dict[str, str], output: Path | None = None) -> subprocess.Popen[bytes]:
    """The service in a process of its own. output: where its log goes; none: nowhere"""
    with (output or Path(os.devnull)).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"services.{service}"], env={**os.environ, **variables}, stdout=log
        )


async def wait_until_ready(port: str, process: subprocess.Popen[bytes]) -> None:
    """Until it answers that it is ready; fails where it ends or takes 90 s."""
    async with httpx.AsyncClient() as client:
        limit = time.monotonic() + 90
        while True:
            try:
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).is_success:
                    return
            except httpx.TransportError:
                assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.1)  # noqa: ASYNC251  nothing else runs here
