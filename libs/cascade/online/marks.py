"""Marks in Redis of what a build put there, so that an emptied Redis is noticed and filled again."""

from __future__ import annotations

from redis import Redis

from cascade.online import keys


def mark_built(redis_url: str, asset: str, digest: str) -> None:
    """Remember that `asset` was written, and what it was made of."""
    with Redis.from_url(redis_url) as client:
        client.set(keys.built(asset), digest)


def built_digest(redis_url: str, asset: str) -> str | None:
    """The digest of the last write of `asset`; None where this Redis does not hold it."""
    with Redis.from_url(redis_url, decode_responses=True) as client:
        value = client.get(keys.built(asset))
    return None if value is None else str(value)
