"""The storefront in a process of its own."""

from __future__ import annotations

import httpx


def test_open_streams_do_not_hold_up_the_end(run_service, model_store, tmp_path):
    environment = {
        "CASCADE_GATEWAY_MODEL_STORE": str(tmp_path / "models"),
        "CASCADE_GATEWAY_REDIS_URL": "redis://127.0.0.1:1/0",
        "CASCADE_GATEWAY_FEAST_REGISTRY": str(tmp_path / "none.db"),
        "CASCADE_GATEWAY_STOREFRONT": "true",
        # Far beyond what `run_service` waits: only streams that end by themselves let it pass.
        "CASCADE_GATEWAY_SHUTDOWN_TIMEOUT_S": "3600",
    }
    with httpx.Client(timeout=60) as reader:
        with run_service("gateway", environment) as client:
            assert client.get("/v1/facets").json()["items"] == 30
            url = client.base_url.join("/v1/users/u/events")
            stream = reader.send(reader.build_request("GET", url), stream=True)
            lines = stream.iter_lines()
            assert next(lines) == "retry: 1000"
            assert "event: unavailable" in (next(lines), next(lines))
        stream.close()
