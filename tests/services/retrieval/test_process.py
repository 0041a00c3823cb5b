from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_the_service_runs_in_a_process_of_its_own(
    tmp_path: Path, publish: Callable[[int], str], run_service: Any
) -> None:
    version = publish(0)
    with run_service("retrieval", {"CASCADE_RETRIEVAL_MODEL_STORE": str(tmp_path / "models")}) as client:
        body = {"user": {"user_id": "u1"}, "context": {"timestamp": 1_767_600_000}, "k": 5}
        answer = client.post("/v1/retrieve", json=body)
        assert answer.json()["version"] == version
        assert len(answer.json()["item_ids"]) == 5
