"""Is it there, is it ready, is its port free: the questions a supervisor asks over the network."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

from cascade.local.errors import PortTaken

Probe = Callable[[], bool]

_TIMEOUT_S = 2.0
# Proxies of the environment are for the world outside, not for one's own machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def reachable_host(host: str) -> str:
    """The host to call for a server bound to `host`: one bound to every address is called on loopback."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104  # nosec B104


def http_url(host: str, port: int) -> str:
    """Base URL of a server bound to `host` and `port`."""
    name = reachable_host(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def http_probe(url: str) -> Probe:
    """Ready when a GET of `url` answers 2xx."""

    def ready() -> bool:
        try:
            with _OPENER.open(url, timeout=_TIMEOUT_S) as response:
                return bool(200 <= response.status < 300)
        except (urllib.error.URLError, OSError):
            return False

    return ready


def post(url: str, headers: Mapping[str, str], timeout_s: float) -> bytes:
    """The body that answers an empty POST. Raises OSError where there is no answer, or one that is no success."""
    request = urllib.request.Request(url, b"", dict(headers), method="POST")  # noqa: S310  (our own address)
    with _OPENER.open(request, timeout=timeout_s) as response:
        body: bytes = response.read()
    return body


def redis_probe(url: str) -> Probe:
    """Ready when Redis answers a PING."""

    def ready() -> bool:
        from redis import Redis
        from redis.exceptions import RedisError

        try:
            with Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S) as client:
                return bool(client.ping())
        except (RedisError, OSError):
            return False

    return ready


def require_free(host: str, port: int, name: str, setting: str) -> None:
    """Make sure that a part can listen. Raises PortTaken, which names the setting to change."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(
                f"{name} cannot listen on {host}:{port} ({error.strerror}); "
                f"stop what listens there, or choose another port with {setting}"
            ) from error
