"""Telling the services of a run that an alias has moved."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cascade.local.refresh import Told, tell
from cascade.local.state import PartState, PartStatus, RunFolder, RunStatus
from cascade.settings import Settings

TOKEN = "a-token"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, state_dir=tmp_path)


class Service(HTTPServer):
    """Answers /internal/refresh as it is told."""

    status: int = 200
    bundles: object = {}
    asked: list[tuple[str, str | None]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        self.server.asked.append((self.path, self.headers["authorization"]))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(json.dumps({"bundles": self.server.bundles}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def run(settings: Settings, token: str | None = TOKEN, **parts: tuple[str, PartState]) -> Iterator[None]:
    folder = RunFolder(settings.run_dir)
    with folder.locked():
        status = [PartStatus(name=name, address=address, state=state) for name, (address, state) in parts.items()]
        folder.write(RunStatus(run_id="r", pid=1, phase="ready", parts=status))
        if token is not None:
            folder.write_token(token)
        yield


def test_a_running_service_is_told_with_the_token(settings: Settings, service: Service) -> None:
    service.bundles = {"ranker": {"version": "v2", "changed": True, "refused": None}}
    with run(settings, ranker=(service.url, "running"), gateway=("http://127.0.0.1:1", "running")):
        assert tell(settings, "ranker") == Told("ranker", "v2")
    assert service.asked == [("/internal/refresh", f"Bearer {TOKEN}")]


def test_all_in_one_process_are_told_through_the_gateway(settings: Settings, service: Service) -> None:
    service.bundles = {"gateway": {}, "ranker": {"version": "v2", "changed": True, "refused": None}}
    with run(settings, gateway=(service.url, "running")):
        assert tell(settings, "ranker") == Told("ranker", "v2")


def test_a_refusal_is_handed_on(settings: Settings, service: Service) -> None:
    service.bundles = {"ranker": {"version": "v1", "changed": False, "refused": "v2: BundleCorrupt: altered"}}
    with run(settings, ranker=(service.url, "running")):
        assert tell(settings, "ranker") == Told("ranker", "v1", "v2: BundleCorrupt: altered")


@pytest.mark.parametrize(("status", "bundles"), [(401, {}), (500, {}), (200, {}), (200, None)])
def test_no_usable_answer_is_a_problem(settings: Settings, service: Service, status: int, bundles: object) -> None:
    service.status, service.bundles = status, bundles
    with run(settings, ranker=(service.url, "running")):
        told = tell(settings, "ranker")
    assert told is not None
    assert told.version is None
    assert "gave no answer" in str(told.problem)


def test_a_service_that_is_gone_is_a_problem(settings: Settings) -> None:
    with run(settings, ranker=("http://127.0.0.1:1", "running")):
        told = tell(settings, "ranker")
    assert told is not None
    assert "gave no answer" in str(told.problem)


def test_without_a_run_or_its_token_nobody_is_told(settings: Settings, service: Service) -> None:
    assert tell(settings, "ranker") is None
    with run(settings, ranker=(service.url, "running")):
        pass
    assert tell(settings, "ranker") is None  # what a run that ended left behind
    with run(settings, ranker=(service.url, "restarting")):
        assert tell(settings, "ranker") is None  # it reads the alias when it starts
    RunFolder(settings.run_dir).remove_table()
    with run(settings, token=None, ranker=(service.url, "running")):
        assert tell(settings, "ranker") is None
    assert service.asked == []
