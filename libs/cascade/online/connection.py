"""The client of the services: short timeouts, no hidden retries, one error for "Redis did not answer"."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry as BlockingRetry

from cascade.online.errors import OnlineStoreDown
from cascade.online.spans import TracedRedis


def connect(url: str, *, timeout_s: float = 0.25, max_connections: int = 32) -> Redis:
    """A client over a pool of its own; no connection is made yet. Close it with `await client.aclose()`.

    timeout_s bounds connecting, each command, and the wait for a free connection. Nothing is retried: an interaction
    is not idempotent, and a read is retried by whoever knows the time that is left. A connection that the server
    dropped is noticed when it is taken from the pool, and made anew.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
    return TracedRedis.from_pool(pool)


def connect_blocking(url: str, *, timeout_s: float) -> redis.Redis:
    """A client for threads, with the same manners: no connection yet, each command bounded, nothing retried."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=BlockingRetry(NoBackoff(), 0),
    )


@contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Turns whatever the client raises into OnlineStoreDown, for this request alone."""
    try:
        yield
    except OnlineStoreDown as error:  # of a PipelinedRedis
        raise OnlineStoreDown(f"{doing}: {error}") from error
    except (RedisError, OSError, TimeoutError) as error:
        raise OnlineStoreDown(f"{doing}: {type(error).__name__}: {error}") from error


async def answers(client: Redis) -> str | None:
    """Readiness: None if the server answers a PING, else what kind of failure (no address: callers see it)."""
    try:
        with store_errors("ping"):
            await client.ping()  # type: ignore[misc]  # the client's types mix sync and async
    except OnlineStoreDown as error:
        return f"the store does not answer ({type(error.__cause__).__name__})"
    return None
