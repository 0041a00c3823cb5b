"""Spans of what is asked of Redis: the names of commands, never their keys, which hold ids of users."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from cascade import tracing


def redis_span(commands: Sequence[object]) -> AbstractContextManager[tracing.Span | None]:
    """The block sends these commands (their names) together and waits for the answers."""
    if tracing.current() is None:
        return tracing.NOTHING
    names = [one.decode() if isinstance(one, bytes) else str(one) for one in commands]
    attributes: dict[str, tracing.Value] = {"db.system.name": "redis", "db.operation.name": " ".join(names)}
    if len(names) > 1:
        attributes["db.operation.batch.size"] = len(names)
    return tracing.span(f"redis {' '.join(dict.fromkeys(names))}", "client", attributes)


class TracedRedis(Redis):
    """redis-py's client, with a span for each round trip of a request that is traced."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """See Redis."""
        with redis_span(args[:1]):
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """See Redis."""
        return _TracedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _TracedPipeline(Pipeline):
    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        with redis_span([command[0][0] for command in self.command_stack]):
            return await super().execute(raise_on_error)
