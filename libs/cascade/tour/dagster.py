"""Dagster's page asked as its own buttons ask it: launch a job's partition, look at a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from cascade.tour.errors import DagsterSilent

TIMEOUT_S = 60.0
_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
_BEGUN = {"IN_PROGRESS", "SUCCESS", "FAILURE"}

_REPOSITORY = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"
_LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""
_RUN = """query($id: ID!) { runOrError(runId: $id) { __typename ... on Run { status
    stepStats { stepKey status startTime } } } }"""


@dataclass(frozen=True)
class Run:
    """begun: its steps that have begun, in that order."""

    run_id: str
    status: str
    begun: Sequence[str]

    @property
    def ended(self) -> bool:
        """Whether nothing comes any more."""
        return self.status in _ENDED


class Dagster:
    """One page. Every method raises DagsterSilent."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self.url, self._client = url, client

    def page(self, run_id: str) -> str:
        """Where a run can be looked at."""
        return f"{self.url}/runs/{run_id}"

    def launch(self, job: str, partition: str) -> str:
        """Begin a run; → its id."""
        nodes = self._ask(_REPOSITORY)["repositoriesOrError"].get("nodes") or []
        if not nodes:
            raise DagsterSilent(f"Dagster at {self.url} has loaded no jobs; its log tells why (`cascade status`)")
        selector = {
            "repositoryName": nodes[0]["name"],
            "repositoryLocationName": nodes[0]["location"]["name"],
            "pipelineName": job,
        }
        tags = [{"key": "dagster/partition", "value": partition}]
        params = {
            "selector": selector,
            "runConfigData": {},
            "mode": "default",
            "executionMetadata": {"tags": tags},
        }
        answer = self._ask(_LAUNCH, params=params)["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise DagsterSilent(f"Dagster did not begin {job} for {partition}: {answer}")
        run_id: str = answer["run"]["runId"]
        return run_id

    def run(self, run_id: str) -> Run:
        """How a run does."""
        found = self._ask(_RUN, id=run_id)["runOrError"]
        if found["__typename"] != "Run":
            raise DagsterSilent(f"Dagster knows no run {run_id}")
        begun = [step for step in found["stepStats"] if step["status"] in _BEGUN]
        begun.sort(key=lambda step: step["startTime"] or 0.0)
        return Run(run_id, found["status"], [step["stepKey"] for step in begun])

    def _ask(self, query: str, **variables: Any) -> dict[str, Any]:
        try:
            answer = self._client.post("/graphql", json={"query": query, "variables": variables})
            content = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise DagsterSilent(
                f"Dagster's page at {self.url} gives no answer ({error}); `cascade up` without --no-dagster starts it"
            ) from error
        if content.get("errors"):
            raise DagsterSilent(f"Dagster at {self.url} refuses: {content['errors'][0].get('message')}")
        data: dict[str, Any] = content["data"]
        return data
