"""A service's URL becomes the places of its replicas."""

import asyncio
import socket

import pytest

from cascade.serving.balance import Place
from cascade.serving.resolving import Resolver


@pytest.fixture
def names(monkeypatch):
    """Host name → addresses, in the place of DNS; what was asked."""
    known, asked = {}, []

    async def getaddrinfo(_, host, port, **options):
        asked.append(host)
        assert options == {"type": socket.SOCK_STREAM}
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(asyncio.get_event_loop_policy()._loop_factory, "getaddrinfo", getaddrinfo)
    return known, asked


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8002", "http://[::1]:8002", "http://localhost:8002", "https://10.0.0.1"]
)
async def test_one_address_is_one_replica_and_is_not_looked_up(url, names):
    assert await Resolver(url)() == [Place(url)]
    assert names[1] == []


async def test_a_name_is_as_many_replicas_as_it_has_addresses(names):
    names[0]["filter.shop"] = ["10.0.0.2", "10.0.0.1", "fd00::3", "10.0.0.1"]
    url = "http://filter.shop:8002/v0"
    resolver = Resolver(url)
    assert await resolver() == [Place(url, "10.0.0.1"), Place(url, "10.0.0.2"), Place(url, "fd00::3")]
    names[0]["filter.shop"] = ["10.0.0.9"]
    assert await resolver() == [Place(url, "10.0.0.9")]


async def test_several_urls(names):
    names[0]["more"] = ["10.0.0.1"]
    places = await Resolver("http://127.0.0.1:1, http://127.0.0.1:2,http://more:3")()
    assert places == [Place("http://127.0.0.1:1"), Place("http://127.0.0.1:2"), Place("http://more:3", "10.0.0.1")]


async def test_a_name_that_nobody_knows(names):
    with pytest.raises(OSError, match="not known"):
        await Resolver("http://nowhere:80")()


@pytest.mark.parametrize("urls", ["", "redis://x", "http://a:1,", "http://a:1;http://b:2,b"])
def test_what_is_no_url(urls):
    with pytest.raises(ValueError, match="give http://host:port"):
        Resolver(urls)
