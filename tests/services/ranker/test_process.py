from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch

from cascade.store import ModelStore
from cascade.store.artifacts import RankerArtifacts
from cascade.store.release import promote, rollback

ASK = {"user": {"user_id": "u1"}, "context": {"timestamp": 1_767_600_000}, "item_ids": ["i1", "i2", "x"]}


def test_the_service_runs_in_a_process_of_its_own(
    tmp_path: Path, publish: Callable[[int], str], run_service: Any
) -> None:
    version = publish(0)
    with run_service("ranker", {"CASCADE_RANKER_MODEL_STORE": str(tmp_path / "models")}) as client:
        answer = client.post("/v1/rank", json=ASK)
        assert answer.json()["version"] == version
        assert sorted(answer.json()["item_ids"]) == ["i1", "i2"]


def test_a_running_service_follows_its_alias_by_itself(
    tmp_path: Path, store: ModelStore, bundle: RankerArtifacts, publish: Callable[[int], str], run_service: Any
) -> None:
    old = publish(0)
    environment = {
        "CASCADE_RANKER_MODEL_STORE": str(tmp_path / "models"),
        "CASCADE_RANKER_ALIAS_POLL_S": "0.05",
    }
    with run_service("ranker", environment) as client:

        def until_it_serves(version: str) -> None:
            limit = time.monotonic() + 60
            while client.post("/v1/rank", json=ASK).json()["version"] != version:
                assert time.monotonic() < limit
                time.sleep(0.02)
            assert client.get("/readyz").json()["versions"] == {"stable": version}

        until_it_serves(old)
        new = store.write("ranker", bundle.save, training_days=[date(2026, 1, 9)]).version
        promote(store, "ranker", new)
        until_it_serves(new)
        rollback(store, "ranker")
        until_it_serves(old)

        with torch.no_grad():  # whole, and of no use: nothing but running it shows that
            for parameter in bundle.dlrm.parameters():
                parameter.fill_(float("nan"))
        bad = store.write("ranker", bundle.save, training_days=[date(2026, 1, 10)]).version
        store.set_alias("ranker", "stable", bad)
        limit = time.monotonic() + 60
        while 'cascade_bundle_refused_total{service="ranker"} 0.0' in client.get("/metrics").text:
            assert time.monotonic() < limit
            time.sleep(0.02)
        until_it_serves(old)
