from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from cascade.store import ModelStore
from cascade.store.artifacts import RetrievalArtifacts
from cascade.store.bundles import FORMAT, MANIFEST

TOKEN = "a-token-of-some-length"
ASK = {"user": {"user_id": "u1"}, "context": {"timestamp": 1_767_600_000}, "k": 5}


def test_the_service_runs_in_a_process_of_its_own(
    tmp_path: Path, publish: Callable[[int], str], run_service: Any
) -> None:
    version = publish(0)
    with run_service("retrieval", {"CASCADE_RETRIEVAL_MODEL_STORE": str(tmp_path / "models")}) as client:
        answer = client.post("/v1/retrieve", json=ASK)
        assert answer.json()["version"] == version
        assert len(answer.json()["item_ids"]) == 5
        assert client.post("/internal/refresh").status_code == 404  # no token is set


def test_what_must_not_serve_is_refused_by_a_running_service_and_the_old_version_stays(
    tmp_path: Path, store: ModelStore, bundle: RetrievalArtifacts, publish: Callable[[int], str], run_service: Any
) -> None:
    good = publish(0)
    folder = tmp_path / "models" / "retrieval"

    def truncated(version: str) -> None:
        weights = folder / version / "query_tower" / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:100])

    def altered(version: str) -> None:
        weights = folder / version / "query_tower" / "weights.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)

    def half_a_manifest(version: str) -> None:
        manifest = folder / version / MANIFEST
        manifest.write_text(manifest.read_text()[:100])

    def newer(version: str) -> None:
        manifest = folder / version / MANIFEST
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": FORMAT + 1}))

    def foreign() -> str:
        bundle.query_tower.candidate_fingerprint = "of another training"
        version = store.write("retrieval", bundle.save, training_days=[date(2026, 1, 20)]).version
        store.set_alias("retrieval", "stable", version)
        return version

    environment = {
        "CASCADE_RETRIEVAL_MODEL_STORE": str(tmp_path / "models"),
        "CASCADE_RETRIEVAL_INTERNAL_TOKEN": TOKEN,
        "CASCADE_RETRIEVAL_ALIAS_POLL_S": "3600",  # it looks when it is told, and never at half of a harm
    }
    with run_service("retrieval", environment) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"

        def told() -> dict[str, Any]:
            answer = client.post("/internal/refresh")
            assert answer.status_code == 200
            found: dict[str, Any] = answer.json()["bundles"]["retrieval"]
            return found

        def serving(version: str, refused: int) -> None:
            assert client.post("/v1/retrieve", json=ASK).json()["version"] == version
            assert client.get("/readyz").json()["versions"] == {"stable": version}
            lines = client.get("/metrics").text.splitlines()
            assert [line for line in lines if line.startswith("cascade_bundle_info{")] == [
                f'cascade_bundle_info{{service="retrieval",track="stable",version="{version}"}} 1.0'
            ]
            assert f'cascade_bundle_refused_total{{service="retrieval"}} {refused:.1f}' in lines

        harms = [(truncated, "BundleCorrupt"), (altered, "BundleCorrupt"), (half_a_manifest, "BundleCorrupt")]
        for number, (harm, error) in enumerate([*harms, (newer, "BundleTooNew")], start=1):
            bad = publish(number)
            harm(bad)
            outcome = told()
            assert (outcome["version"], outcome["changed"]) == (good, False)
            assert outcome["refused"].startswith(f"{bad}: {error}: ")
            serving(good, number)
        bad = foreign()
        assert told()["refused"].startswith(f"{bad}: LineageMismatch: ")
        serving(good, 5)

        better = publish(9)
        assert told() == {"version": better, "changed": True, "refused": None}
        serving(better, 5)
