"""The whole system, as `cascade up` brings it up: real processes, real Redis, real models of a tiny shop."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cascade.access.api_keys import KeyFile, Scope, make_key
from cascade.settings import Settings

STAGES = ("FEATURES", "RETRIEVAL", "FILTER", "RANKER", "WRITE")
ADMIN_KEY, _ADMIN = make_key("these tests", list(Scope))
HURRIED = {
    "CASCADE_CANARY_STEPS": "[50, 100]",
    "CASCADE_CANARY_PAUSE_S": "2",
    "CASCADE_CANARY_LOOK_S": "0.5",
    "CASCADE_CANARY_LIMIT_S": "120",
    "CASCADE_CANARY_CLICK_WAIT_S": "1",
    "CASCADE_CANARY_MIN_CALLS": "15",
    "CASCADE_CANARY_MIN_USERS": "10",
}
"""A judge whose steps last seconds, and who is content with few visitors."""
PARTS = ("gateway", "retrieval", "filter", "ranker", "features", "dagster", "redis")


@dataclass(frozen=True)
class System:
    """A running Cascade and the way to drive it."""

    environment: dict[str, str]
    settings: Settings
    http: httpx.Client

    def cascade(self, *arguments: str, check: bool = True) -> str:
        """Run the `cascade` command; returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "cascade.cli", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
        )
        if check:
            assert done.returncode == 0, done.stdout
        return done.stdout

    @property
    def token(self) -> str:
        """What the services of this run ask of their callers."""
        return (self.settings.state_dir / "run" / "internal.token").read_text()

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """What Dagster's page asks and is told."""
        url = f"http://127.0.0.1:{self.settings.dagster_port}/graphql"
        answer = httpx.post(url, json={"query": query, "variables": variables}, timeout=60).json()
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    def recommend(self, user_id: str, **fields: Any) -> dict[str, Any]:
        """A recommendation that must succeed."""
        answer = self.http.post("/v1/recommendations", json={"user_id": user_id, **fields})
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content

    def ids(self, user_id: str, **fields: Any) -> list[str]:
        """The ids of a recommendation."""
        return [item["item_id"] for item in self.recommend(user_id, **fields)["items"]]


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def running_system(folder: Path, **settings_values: str) -> Iterator[System]:
    """Up while the block runs, in a state folder of its own."""
    values = {"state_dir": str(folder / "state"), "shop_size": "tiny", "clip_epochs": "1", "seed": "5"}
    values |= {f"{part}_port": str(port) for part, port in zip(PARTS, free_ports(len(PARTS)), strict=True)}
    values |= settings_values
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CASCADE_")}
    environment |= {f"CASCADE_{name.upper()}": value for name, value in values.items()}
    # What is tested is what is answered, on machines that other work may keep busy. What is down is noticed at once.
    environment |= {f"CASCADE_GATEWAY_{stage}_TIMEOUT_MS": "10000" for stage in STAGES}
    environment["CASCADE_GATEWAY_DEADLINE_MS"] = "20000"
    environment |= HURRIED
    environment |= {f"CASCADE_{name}_ACCESS_LOG": "true" for name in ("RETRIEVAL", "FILTER", "RANKER")}
    settings = Settings(_env_file=None, **values)
    KeyFile(settings.keys_file).add(_ADMIN)
    with httpx.Client(base_url=f"http://127.0.0.1:{settings.gateway_port}", timeout=10) as http:
        running = System(environment, settings, http)
        print(running.cascade("up", "--detach"))
        try:
            yield running
        finally:
            running.cascade("down")


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Up before the first test that asks for it, down after the last."""
    with running_system(tmp_path_factory.mktemp("e2e")) as running:
        yield running


@pytest.fixture(scope="module")
def system_with_days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Another one, with three days after its full training; the module's own, since days change what serves."""
    with running_system(tmp_path_factory.mktemp("days"), train_share="0.34", kept_days="3") as running:
        yield running


@pytest.fixture(scope="session")
def known_user(system: System) -> str:
    """A user that training met and Feast knows."""
    from cascade.data.contract import Dataset

    rows = Dataset(system.settings.dataset_dir).interactions()
    return str(rows.column("user_id")[0].as_py())


@pytest.fixture(scope="session")
def admin_key() -> str:
    """What promotes and rolls back models from the page."""
    return ADMIN_KEY


@pytest.fixture(scope="session")
def state_dir(system: System) -> Path:
    return system.settings.state_dir
