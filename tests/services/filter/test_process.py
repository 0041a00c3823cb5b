from __future__ import annotations

from typing import Any


def test_the_service_runs_in_a_process_of_its_own(redis_url: str, run_service: Any) -> None:
    with run_service("filter", {"CASCADE_FILTER_REDIS_URL": redis_url}) as client:
        seen = client.post("/v1/seen", json={"user_id": "u", "item_id": "a", "timestamp": 1_767_600_000})
        assert seen.status_code == 200
        answer = client.post("/v1/filter", json={"user_id": "u", "item_ids": ["a", "b"]})
        assert answer.json()["item_ids"] == ["b"]
        assert "server" not in answer.headers
