"""A canary as a shop's people have it: by the commands, by Dagster's page, and with a second gateway nobody tells."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import httpx
import pytest

from cascade.canary import record as records
from cascade.local.parts import GATEWAY, Part, service_parts
from cascade.store import ModelStore, canary
from services.gateway.tracks import Draw
from tests.e2e.canaries import answers, eventually, share_is, tracks, versions_of
from tests.e2e.candidates import write_another
from tests.e2e.conftest import free_ports

VISITORS = [f"live-{number}" for number in range(40)]
RUNNING = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def store(system: Any) -> Iterator[ModelStore]:
    """The run's store; what a test leaves of a canary is ended, and what it promoted is taken back."""
    store = ModelStore(system.settings.model_store_url)
    before = {service: store.alias(service, "stable") for service in canary.CANARIED}
    yield store
    for service, version in before.items():
        left = canary.read(store, service)
        if left is not None and left.runs:
            canary.abort(store, service, "the test is over")
        if store.alias(service, "stable") != version:
            system.cascade("models", "rollback", service)
        assert store.alias(service, "stable") == version


@pytest.fixture
def second_gateway(system: Any) -> Iterator[Part]:
    """Another gateway over the same services, starting: it finds everything in the model store."""
    (port,) = free_ports(1)
    parts = service_parts(system.settings.model_copy(update={"gateway_port": port}), system.token)
    (part,) = (one for one in parts if one.name == GATEWAY)
    process = subprocess.Popen(
        part.argv, env={**system.environment, **part.environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield part
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def at_work(system: Any, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`cascade canary …` while the block runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cascade.cli", "canary", *arguments],
        env={**system.environment, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def canary_of(store: ModelStore) -> canary.Canary:
    """What the store says of the ranker's."""
    found = canary.read(store, "ranker")
    assert found is not None
    return found


def test_the_command_tries_a_version_shows_it_and_takes_it_from_every_gateway(
    system: Any, store: ModelStore, second_gateway: Part
) -> None:
    version, ports = write_another(store, "ranker"), (system.settings.gateway_port, second_gateway.port)
    with at_work(system, "start", "ranker", version, CASCADE_CANARY_PAUSE_S="600") as judge:
        eventually(second_gateway.ready, within_s=120)
        eventually(share_is(50.0, *ports))
        eventually(lambda: versions_of(system).get("canary") == version)
        started = canary_of(store)
        drawn = Draw("ranker", started)
        expected = ["canary" if drawn.has(user) else "stable" for user in VISITORS]
        assert set(expected) == {"canary", "stable"}
        for port in ports:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as http:
                assert tracks(answers(http, VISITORS)) == expected

        def calls_counted() -> bool:
            answers(system.http, VISITORS[:10])
            record = records.read(store, "ranker")
            return record is not None and record.is_of(started) and record.counts("errors").canary > 0

        eventually(calls_counted)
        shown = system.cascade("canary", "status", "ranker")
        assert f"ranker {version} has 50 % of the users." in shown
        assert "errors (calls)" in shown
        with at_work(system, "abort", "ranker", "--reason", "the pictures are wrong") as abort:
            eventually(lambda: not canary_of(store).runs)
            assert eventually(share_is(0.0, *ports)) < 10
            printed, _ = abort.communicate(timeout=60)
        told, _ = judge.communicate(timeout=60)

    assert (abort.returncode, judge.returncode) == (0, 1)
    assert f"ranker {version} is aborted: the pictures are wrong" in told
    assert f"ranker {version} was aborted: the pictures are wrong" in printed
    assert "was aborted: the pictures are wrong" in system.cascade("canary", "status", "ranker")
    assert store.alias("ranker", "canary") is None
    assert set(tracks(answers(system.http, VISITORS))) == {"stable"}


def test_the_command_makes_retrievals_canary_stable(system: Any, store: ModelStore) -> None:
    stable, version = str(store.alias("retrieval", "stable")), write_another(store, "retrieval")
    started = system.cascade("canary", "start", "retrieval", version, "--no-judge")
    assert f"retrieval {version} has 50 % of the users." in started
    assert "canary_retrieval" in started
    # A local run is told: nothing is waited for.
    assert versions_of(system, "retrieval") == {"stable": stable, "canary": version}
    assert share_is(50.0, system.settings.gateway_port, service="retrieval")()
    assert set(tracks(answers(system.http, VISITORS), "retrieval")) == {"stable", "canary"}

    promoted = system.cascade("canary", "promote", "retrieval")
    assert f"retrieval {version} is stable; before it: {stable}" in promoted
    assert versions_of(system, "retrieval") == {"stable": version}
    assert share_is(0.0, system.settings.gateway_port, service="retrieval")()
    for answer in answers(system.http, VISITORS[:5]):
        assert (answer["versions"]["retrieval"]["track"], answer["versions"]["retrieval"]["version"]) == (
            "stable",
            version,
        )
    assert f"retrieval {version} was promoted" in system.cascade("canary", "status", "retrieval")


def launched(system: Any, job: str, config: dict[str, Any]) -> str:
    """What the launchpad's button does; → the run."""
    found = system.graphql(
        "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"
    )
    (repository,) = found["repositoriesOrError"]["nodes"]
    answer = system.graphql(
        """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
            ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
            ... on RunConfigValidationInvalid { errors { message } } } }""",
        params={
            "selector": {
                "repositoryName": repository["name"],
                "repositoryLocationName": repository["location"]["name"],
                "pipelineName": job,
            },
            "runConfigData": config,
            "mode": "default",
        },
    )["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    run_id: str = answer["run"]["runId"]
    return run_id


def run_of(system: Any, run_id: str) -> dict[str, Any]:
    """Its status, and the metadata that its events carry."""
    run: dict[str, Any] = system.graphql(
        """query($id: ID!) { runOrError(runId: $id) { ... on Run { status eventConnection { events {
            ... on MessageEvent { message }
            ... on ExecutionStepOutputEvent { metadataEntries { label
                ... on TextMetadataEntry { text } ... on MarkdownMetadataEntry { mdStr } } } } } } } }""",
        id=run_id,
    )["runOrError"]
    return run


def test_dagsters_job_leads_a_version_to_all(system: Any, store: ModelStore) -> None:
    version = write_another(store, "ranker")
    run_id = launched(system, "canary_ranker", {"ops": {"judge_ranker": {"config": {"version": version}}}})
    deadline, number = time.monotonic() + 200, count()
    while (run := run_of(system, run_id))["status"] in RUNNING:
        assert time.monotonic() < deadline, run["status"]
        answers(system.http, [f"visitor-{next(number)}" for _ in range(10)])

    events = run["eventConnection"]["events"]
    assert run["status"] == "SUCCESS", [event["message"] for event in events]
    told = {entry["label"]: entry for event in events for entry in event.get("metadataEntries", [])}
    assert (told["version"]["text"], told["state"]["text"]) == (version, "promoted")
    assert told["reason"]["text"] == "no signal found it worse at 50 %, 100 %"
    assert "errors (calls)" in told["evidence"]["mdStr"]
    assert store.alias("ranker", "stable") == version
    assert store.alias("ranker", "canary") is None
    assert versions_of(system) == {"stable": version}
    assert set(tracks(answers(system.http, VISITORS[:5]))) == {"stable"}
