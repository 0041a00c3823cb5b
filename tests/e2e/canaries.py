"""Ways to look at a canary from outside: the pages of its gateways and of its service, and what visitors get."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import httpx


def eventually(condition: Callable[[], bool], within_s: float = 60.0) -> float:
    """Seconds until the condition held."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s
        time.sleep(0.05)
    return time.monotonic() - began


def versions_of(system: Any, service: str = "ranker") -> dict[str, str]:
    """By track, what a service's replica holds."""
    port = getattr(system.settings, f"{service}_port")
    versions: dict[str, str] = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=10).json()["versions"]
    return versions


def metrics(port: int) -> str:
    return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text


def share_is(percent: float, *gateway_ports: int, service: str = "ranker") -> Callable[[], bool]:
    """Whether each of the gateways says that it sends this share of the users to the service's canary."""
    line = f'cascade_canary_percent{{service="{service}"}} {percent}'
    return lambda: all(line in metrics(port) for port in gateway_ports)


def answers(
    http: httpx.Client, users: Iterable[str], headers: dict[str, str] | None = None, **fields: Any
) -> list[dict[str, Any]]:
    """One answer a user, none of them degraded."""
    found = []
    for user_id in users:
        body = {"user_id": user_id, "k": 5, **fields}
        answer = http.post("/v1/recommendations", json=body, headers=headers or {})
        assert answer.status_code == 200, answer.text
        content = answer.json()
        assert content["degraded"] == []
        found.append(content)
    return found


def tracks(found: Iterable[dict[str, Any]], service: str = "ranker") -> list[str]:
    return [answer["versions"][service]["track"] for answer in found]
