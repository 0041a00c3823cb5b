from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import httpx

from cascade.online.server import free_port


def test_the_service_runs_in_a_process_of_its_own_and_ends_in_order(redis_url: str) -> None:
    port = free_port()
    environment = {**os.environ, "CASCADE_FILTER_PORT": str(port), "CASCADE_FILTER_REDIS_URL": redis_url}
    process = subprocess.Popen(
        [sys.executable, "-m", "services.filter"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            deadline = time.monotonic() + 60
            while True:
                try:
                    if client.get("/readyz").status_code == 200:
                        break
                except httpx.TransportError:
                    assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            body = {"user_id": "u", "item_id": "a", "timestamp": 1_767_600_000}
            assert client.post("/v1/seen", json=body).status_code == 200
            answer = client.post("/v1/filter", json={"user_id": "u", "item_ids": ["a", "b"]})
            assert answer.json()["item_ids"] == ["b"]
            assert "server" not in answer.headers
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (0, -signal.SIGTERM)
    lines = output.decode().splitlines()
    assert all(line.startswith("{") for line in lines), "every line of the log is JSON"
    assert any('"route":"/v1/seen"' in line for line in lines)
