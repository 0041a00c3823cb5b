"""Reads over one connection that all requests share: what is asked at once is sent at once, and answered in order.

A client with a pool spends more time on taking, checking and giving back a connection than the server and the network
take together (redis-py 7: three quarters of a GET). Redis answers a connection's commands in order, so the requests of
one event loop need no connection each. For commands that may be asked again without harm.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

import hiredis
from redis.asyncio.connection import parse_url
from redis.exceptions import ConnectionError as ServerGone
from redis.exceptions import ResponseError

from cascade.online.errors import OnlineError

_PLAIN_OPTIONS = frozenset({"host", "port", "db", "username", "password"})


def can_share(url: str) -> bool:
    """Whether a URL is one for SharedConnection: a plain redis:// one. Others (TLS, sockets) need a client's pool."""
    return url.startswith("redis://") and parse_url(url).keys() <= _PLAIN_OPTIONS


class SharedConnection:
    """For one event loop. Nothing is connected before the first command; close it with `aclose`.

    Every command is answered, or fails, within `timeout_s`, connecting included. A connection that the server dropped
    is made anew by the next command; nothing is retried.
    """

    def __init__(self, url: str, *, timeout_s: float = 0.25) -> None:
        if not can_share(url):
            # the value may hold a password
            raise OnlineError("a shared connection takes a redis://host:port/db without options; use a client's pool")
        options = cast("dict[str, Any]", parse_url(url))
        self._host, self._port = options.get("host", "localhost"), options.get("port", 6379)
        self._greeting: list[tuple[str, ...]] = []
        if "password" in options:
            user = (options["username"],) if "username" in options else ()
            self._greeting.append(("AUTH", *user, options["password"]))
        if options.get("db"):
            self._greeting.append(("SELECT", str(options["db"])))
        self._timeout_s = timeout_s
        self._channel: _Channel | None = None
        self._connecting: asyncio.Task[_Channel] | None = None

    async def get(self, key: str) -> bytes | None:
        """The value of a string, or None.

        Raises TimeoutError, OSError (it could not connect), or of redis.exceptions ConnectionError (the server went
        while it was asked) and ResponseError.
        """
        channel = self._channel
        if channel is None or not channel.is_open:
            channel = await self._connected()
        return cast("bytes | None", await channel.ask(("GET", key)))

    async def aclose(self) -> None:
        """Hang up; what waits fails."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._channel is not None:
            self._channel.hang_up()

    async def _connected(self) -> _Channel:
        """A new channel; all that wait for one wait for the same."""
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(self._done_connecting)
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> _Channel:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._timeout_s):
            _, channel = await loop.create_connection(lambda: _Channel(loop, self._timeout_s), self._host, self._port)
            try:
                for command in self._greeting:
                    await channel.ask(command)
            except BaseException:
                channel.hang_up()
                raise
        return channel

    def _done_connecting(self, task: asyncio.Task[_Channel]) -> None:
        self._connecting = None
        if not task.cancelled() and task.exception() is None:
            self._channel = task.result()


class _Channel(asyncio.Protocol):
    """One connection. is_open: whether it may be asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        self._loop = loop
        self._timeout_s = timeout_s
        self._parser = hiredis.Reader()
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = (
            deque()
        )  # with the moment by which each must be answered
        self._watch: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self.is_open = False

    def ask(self, command: tuple[str, ...]) -> asyncio.Future[Any]:
        """Send it; the future of its answer."""
        if self._transport is None or not self.is_open:
            raise ServerGone("the connection is closed")
        future = self._loop.create_future()
        self._waiting.append((future, self._loop.time() + self._timeout_s))
        self._transport.write(hiredis.pack_command(cast("Any", command)))
        if self._watch is None:
            # one timer for all: who asked first must be answered first
            self._watch = self._loop.call_later(self._timeout_s, self._look_at_the_time)
        return future

    def hang_up(self) -> None:
        """Close it at once."""
        self.is_open = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol."""
        try:
            self._parser.feed(data)
            while (answer := self._parser.gets()) is not False:
                future, _ = self._waiting.popleft()
                if future.done():
                    continue  # whoever asked is gone
                if isinstance(answer, hiredis.ReplyError):
                    future.set_exception(ResponseError(str(answer)))
                else:
                    future.set_result(answer)
        except (hiredis.ProtocolError, IndexError):  # no Redis, or an answer that nobody asked for
            self.hang_up()
        if not self.is_open and not self._waiting:
            self.hang_up()

    def connection_lost(self, error: Exception | None) -> None:
        """Of asyncio.Protocol: whoever waits is told."""
        self.hang_up()
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                future.set_exception(ServerGone(f"the server closed the connection: {error}"))

    def _look_at_the_time(self) -> None:
        """Fail who waited too long. The connection is not asked again then; who waits still may be answered."""
        self._watch, now = None, self._loop.time()
        for future, until in self._waiting:
            if until > now + 1e-3:
                self._watch = self._loop.call_at(until, self._look_at_the_time)
                return
            if not future.done():
                self.is_open = False
                future.set_exception(TimeoutError(f"no answer within {self._timeout_s:g} s"))
        if not self.is_open:
            self.hang_up()
