"""Where counters come from: the gateways' own pages of metrics, or a Prometheus that has scraped them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
from pydantic import SecretStr

from cascade.canary import queries
from cascade.canary.errors import NoEvidence
from cascade.canary.outcomes import Fetch, Labels, Page

TIMEOUT_S = 5.0
"""For one page, or one answer of Prometheus."""
_STARTED = "process_start_time_seconds"
_READ = ("cascade_track_", _STARTED)


def source(
    client: httpx.Client, gateways: str, prometheus: str | None, service: str, token: SecretStr | None = None
) -> Fetch:
    """Prometheus where there is one, else the gateways' pages. token: see gateway_pages."""
    return prometheus_server(client, prometheus, service) if prometheus else gateway_pages(client, gateways, token)


def gateway_pages(client: httpx.Client, urls: str, token: SecretStr | None = None) -> Fetch:
    """`/metrics` of each gateway.

    urls: commas part them; a name with several addresses is as many replicas
    token: the internal token, which gateways in production ask for
    """
    own = {} if token is None else {"authorization": f"Bearer {token.get_secret_value()}"}

    def fetch() -> dict[str, Page]:
        pages, problems = {}, []
        for replica, url, headers in _replicas(urls):
            try:
                answer = client.get(f"{url}/metrics", headers={**headers, **own})
                answer.raise_for_status()
                pages[replica] = parse(answer.text)
            except httpx.HTTPError as error:
                problems.append(f"{replica}: {type(error).__name__} {error}".rstrip())
        if not pages:
            raise NoEvidence(f"no gateway tells its metrics ({'; '.join(problems)}); see CASCADE_CANARY_GATEWAYS")
        return pages

    return fetch


def prometheus_server(client: httpx.Client, url: str, service: str) -> Fetch:
    """What a Prometheus last scraped of every gateway."""

    def fetch() -> dict[str, Page]:
        samples: dict[str, dict[tuple[str, Labels], float]] = {}
        for row in _ask(client, url, queries.tracks(service)):
            labels = dict(row["metric"])
            key = labels.pop("__name__"), frozenset(labels.items())
            samples.setdefault(labels.get("instance", ""), {})[key] = float(row["value"][1])
        started = {
            row["metric"].get("instance", ""): float(row["value"][1]) for row in _ask(client, url, queries.STARTED)
        }
        return {replica: Page(found, started.get(replica)) for replica, found in samples.items()}

    return fetch


def parse(text: str) -> Page:
    """A page of metrics, as far as it tells of tracks."""
    from prometheus_client.parser import text_string_to_metric_families

    lines = [line for line in text.splitlines() if line.removeprefix("# TYPE ").startswith(_READ)]
    samples: dict[tuple[str, Labels], float] = {}
    started = None
    for family in text_string_to_metric_families("\n".join(lines)):
        for sample in family.samples:
            if sample.name == _STARTED:
                started = sample.value
            else:
                samples[sample.name, frozenset(sample.labels.items())] = sample.value
    return Page(samples, started)


def _ask(client: httpx.Client, url: str, query: str) -> list[dict[str, Any]]:
    try:
        answer = client.get(f"{url.rstrip('/')}/api/v1/query", params={"query": query})
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise NoEvidence(
            f"Prometheus at {url} does not answer ({type(error).__name__} {error}); see CASCADE_CANARY_PROMETHEUS"
        ) from error
    return found


def _replicas(urls: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Name, address to call and headers of each replica."""
    for url in filter(None, map(str.strip, urls.split(","))):
        parts = urlsplit(url.rstrip("/"))
        host, port = parts.hostname or "", parts.port
        addresses = _addresses(host)
        for address in addresses:
            shown = f"[{address}]" if ":" in address else address
            place = shown if port is None else f"{shown}:{port}"
            named = address != host and parts.scheme == "http"  # a certificate is of the name, not of the address
            called = urlunsplit((parts.scheme, place, parts.path, "", "")) if named else url.rstrip("/")
            yield called, called, {"host": parts.netloc} if named else {}


def _addresses(host: str) -> list[str]:
    try:
        ip_address(host)
    except ValueError:
        pass
    else:
        return [host]
    if host == "localhost":
        return [host]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return [host]  # calling it says what is wrong
    return sorted({str(entry[4][0]) for entry in found})
