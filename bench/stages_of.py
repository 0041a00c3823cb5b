"""Where a request spends its time, from the services' own histograms: sums before and after, divided by requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bench.system import SERVICES, Running

Sums = dict[str, float]
STAGES = ("features", *SERVICES, "metadata")


def sums(services: Mapping[str, Running]) -> Sums:
    """Seconds and counts of every histogram that matters, by service and name."""
    found: Sums = {}
    for name, running in services.items():
        text = httpx.get(f"{running.url}/metrics", timeout=10).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if not sample.name.endswith(("_sum", "_count")):
                    continue
                labels = sample.labels
                if labels.get("route", "/v1/") in ("/metrics", "/readyz", "/healthz"):
                    continue
                part = labels.get("stage", "")
                key = f"{name}:{sample.name}:{part}"
                found[key] = found.get(key, 0.0) + sample.value
    return found


@dataclass(frozen=True)
class StageTime:
    """Milliseconds of one stage of a mean request; what its service has no part in is 0.

    seen: as the gateway saw it. Of that: network (client, kernel, the server's reading and writing), http (the service
    around its work), queue, compute.
    """

    stage: str
    seen: float
    network: float
    http: float
    queue: float
    compute: float


def mean_request(before: Sums, after: Sums) -> tuple[list[StageTime], float, float]:
    """Stages of the mean request, the gateway's own time, and the whole inside the gateway, in milliseconds."""

    def grown(key: str) -> float:
        return after.get(key, 0.0) - before.get(key, 0.0)

    requests = grown("gateway:cascade_stage_seconds_count:total")

    def each(key: str) -> float:
        return 1000 * grown(key) / requests

    stages = []
    for stage in STAGES:
        seen = each(f"gateway:cascade_stage_seconds_sum:{stage}")
        whole = each(f"{stage}:cascade_request_seconds_sum:")
        queue = each(f"{stage}:cascade_queue_wait_seconds_sum:")
        compute = each(f"{stage}:cascade_compute_seconds_sum:")
        if stage in SERVICES:
            stages.append(StageTime(stage, seen, seen - whole, whole - queue - compute, queue, compute))
        else:
            stages.append(StageTime(stage, seen, 0.0, 0.0, 0.0, seen))
    whole = each("gateway:cascade_request_seconds_sum:")
    return stages, whole - sum(one.seen for one in stages), whole
