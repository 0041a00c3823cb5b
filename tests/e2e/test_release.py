"""Versions change under load: no visitor notices, and the answers say which version made them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from cascade.store import ModelStore
from cascade.store.artifacts import RetrievalArtifacts
from tests.e2e.candidates import MAKE, write_another

RATE = 50
"""Requests a second."""
SETTLED = 30
"""Requests sent and answered between two steps."""

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Answer:
    """What one request of the load got. sent, received: the monotonic clock. error: None where it was answered."""

    sent: float
    received: float
    status: int
    content: dict[str, Any]
    error: str | None = None


class Load:
    """Requests at a steady rate, whether or not earlier ones were answered."""

    def __init__(self, url: str, users: list[str]) -> None:
        self.answers: list[Answer] = []
        self._url = url
        self._users = users
        self._ended = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def settled(self, since: float) -> list[Answer]:
        """Enough answers to requests sent after a moment, received by now."""
        limit = time.monotonic() + 120
        while len(found := [answer for answer in list(self.answers) if answer.sent >= since]) < SETTLED:
            assert time.monotonic() < limit
            time.sleep(0.05)
        return found

    async def _run(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=30, trust_env=False) as client:
            asking: set[asyncio.Task[None]] = set()
            started, number = time.monotonic(), 0
            while not self._ended.is_set():
                task = asyncio.create_task(self._ask(client, self._users[number % len(self._users)]))
                asking.add(task)
                task.add_done_callback(asking.discard)
                number += 1
                await asyncio.sleep(max(0.0, started + number / RATE - time.monotonic()))
            await asyncio.gather(*asking)

    async def _ask(self, client: httpx.AsyncClient, user: str) -> None:
        sent = time.monotonic()
        try:
            answer = await client.post("/v1/recommendations", json={"user_id": user, "k": 10})
            self.answers.append(Answer(sent, time.monotonic(), answer.status_code, answer.json()))
        except (httpx.HTTPError, ValueError) as error:
            self.answers.append(Answer(sent, time.monotonic(), 0, {}, repr(error)))


def test_promotions_and_rollbacks_under_load_cost_no_visitor_anything(system: Any, known_user: str) -> None:
    store = ModelStore(system.settings.model_store_url)
    old = {service: str(store.alias(service, "stable")) for service in MAKE}
    new = {service: write_another(store, service) for service in MAKE}
    assert all(old[service] != new[service] for service in MAKE)
    load = Load(str(system.http.base_url), [known_user, *(f"visitor-{number}" for number in range(20))])
    steps: list[tuple[list[Answer], dict[str, str]]] = []

    def step(serving: dict[str, str], *command: str) -> None:
        """Run a command; requests sent once it is done, and answered before the next, are by these versions."""
        began = time.monotonic()
        printed = system.cascade("models", *command)
        ended = time.monotonic()
        assert "serves it" in printed
        print(f"{' '.join(command)}: {ended - began:.2f} s")
        steps.append((load.settled(ended), serving))

    with load.running():
        steps.append((load.settled(0.0), old))
        serving = dict(old)
        for service in MAKE:
            serving = serving | {service: new[service]}
            step(serving, "promote", service, new[service])
            assert readyz(system, service)["versions"] == {"stable": new[service]}
        for service in MAKE:
            serving = serving | {service: old[service]}
            step(serving, "rollback", service)
            assert readyz(system, service)["versions"] == {"stable": old[service]}
            assert_metrics_tell_only(system, service, old[service])

    failed = [answer for answer in load.answers if answer.error is not None or answer.status != 200]
    assert failed == []
    assert [answer.content["degraded"] for answer in load.answers if answer.content["degraded"]] == []
    assert all(len(answer.content["items"]) == 10 for answer in load.answers)
    print(f"{len(load.answers)} answers, the slowest in {max(one.received - one.sent for one in load.answers):.3f} s")
    for found, versions in steps:
        for service in ("retrieval", "ranker"):
            assert {answer.content["versions"][service]["version"] for answer in found} == {versions[service]}


def test_another_lineage_is_refused_while_the_old_one_serves(system: Any, known_user: str) -> None:
    """By `cascade models promote`, and by the service itself where the alias was moved past it."""
    store = ModelStore(system.settings.model_store_url)
    stable = store.bundle("retrieval", "stable")
    parts = RetrievalArtifacts.load(stable.path)
    parts.query_tower.candidate_fingerprint = "of another training"
    foreign = store.write("retrieval", parts.save, training_days=stable.manifest.training_days).version

    refused = system.cascade("models", "promote", "retrieval", foreign, check=False)
    assert "bundle the two of one training" in refused
    assert store.alias("retrieval", "stable") == stable.version

    store.set_alias("retrieval", "stable", foreign)
    try:
        limit = time.monotonic() + 60
        while refusals(system, "retrieval") == 0:
            assert time.monotonic() < limit
            time.sleep(0.1)
        answer = system.recommend(known_user)
        assert answer["degraded"] == []
        assert answer["versions"]["retrieval"]["version"] == stable.version
    finally:
        store.set_alias("retrieval", "stable", stable.version)


def test_the_token_of_the_run_is_its_owners_alone(system: Any, state_dir: Any) -> None:
    token = state_dir / "run" / "internal.token"
    assert token.stat().st_mode & 0o777 == 0o600
    for port in (system.settings.gateway_port, system.settings.retrieval_port, system.settings.ranker_port):
        url = f"http://127.0.0.1:{port}/internal/refresh"
        assert httpx.post(url).status_code == 401
        right = {"authorization": f"Bearer {token.read_text()}"}
        assert httpx.post(url, headers=right).status_code == 200
    for log in (state_dir / "run").glob("*.log"):
        assert token.read_text() not in log.read_text(errors="replace"), log


def service_url(system: Any, service: str) -> str:
    return f"http://127.0.0.1:{getattr(system.settings, f'{service}_port')}"


def readyz(system: Any, service: str) -> dict[str, Any]:
    content: dict[str, Any] = httpx.get(f"{service_url(system, service)}/readyz", timeout=10).json()
    return content


def metrics(system: Any, service: str) -> list[str]:
    return httpx.get(f"{service_url(system, service)}/metrics", timeout=10).text.splitlines()


def assert_metrics_tell_only(system: Any, service: str, version: str) -> None:
    told = [line for line in metrics(system, service) if line.startswith("cascade_bundle_info{")]
    assert told == [f'cascade_bundle_info{{service="{service}",track="stable",version="{version}"}} 1.0']


def refusals(system: Any, service: str) -> float:
    (line,) = [line for line in metrics(system, service) if line.startswith("cascade_bundle_refused_total{")]
    return float(line.split()[-1])
