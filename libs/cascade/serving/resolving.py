"""From the URL of a service to the places of its replicas: each IP address of its name is one.

A headless Service's name has the addresses of all ready pods, where that of an ordinary Service has one, behind which
a kept-alive connection stays with the pod that it met first.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection

from cascade.serving.balance import Place
from cascade.serving.calls import service_address

Resolve = Callable[[], Awaitable[Collection[Place]]]
"""→ where the replicas are now, at least one. Raises OSError when it cannot tell."""


class Resolver:
    """Resolves one URL, or several with commas between.

    A host that is an IP address or localhost is one replica; any other name is as many as it has addresses. Raises
    ValueError for a URL that is none.
    """

    def __init__(self, urls: str) -> None:
        self._urls = {url: _is_name(url) for url in map(str.strip, urls.split(","))}

    async def __call__(self) -> list[Place]:
        """See Resolve."""
        places: list[Place] = []
        for url, named in self._urls.items():
            places += await _addresses(url) if named else [Place(url)]
        return places


def _is_name(url: str) -> bool:
    host = service_address(url).hostname or ""
    if host == "localhost":
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


async def _addresses(url: str) -> list[Place]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(service_address(url).hostname, None, type=socket.SOCK_STREAM)
    return [Place(url, address) for address in sorted({str(entry[4][0]) for entry in found})]
