"""Redis on a request's way: commands of many requests share one connection.

Redis answers in the order in which it is asked, so a command is written at once, whoever else waits, and its answer is
the next one due. redis-py takes a connection from a pool for each command and goes through several layers: 165 µs of
processor for a GET on a kept connection; this takes 24, with the same parser (hiredis). Nothing is sent twice: a
command whose connection breaks fails, and the next one makes the connection anew.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.exceptions import NoScriptError

from cascade.online.errors import OnlineStoreDown
from cascade.online.spans import redis_span

Argument = str | bytes | int


class PipelinedRedis:
    """One connection, made when it is first needed and anew after it broke.

    url: redis://, rediss:// or unix://
    timeout_s: for connecting, and for each command. After a command that was late the connection is given up: a server
        that hangs would keep the others waiting as well.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._address: dict[str, Any] = dict(parse_url(url))
        self._timeout_s = timeout_s
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._failed: tuple[float, str] | None = None

    async def execute(self, *command: Argument) -> Any:
        """The answer: bytes, int, None, or a list of them. Raises OnlineStoreDown."""
        with redis_span(command[:1]):
            connection = await self._connected()
            return await connection.execute(command, self._timeout_s)

    async def execute_all(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """The answers to commands that are sent together. Raises OnlineStoreDown; some may have been done then."""
        with redis_span([command[0] for command in commands]):
            connection = await self._connected()
            found, failed = [], None
            for command, answer in zip(commands, connection.send(commands), strict=True):
                try:
                    found.append(await connection.wait(command, answer, self._timeout_s))
                except OnlineStoreDown as error:  # the others are waited for all the same: each answer has its owner
                    failed = failed or error
            if failed is not None:
                raise failed
            return found

    async def get(self, key: str) -> bytes | None:
        """The value of a string; None where there is none. Raises OnlineStoreDown."""
        value: bytes | None = await self.execute("GET", key)
        return value

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Argument) -> Any:
        """What a script that the server has returns. Raises NoScriptError where it has it not, and OnlineStoreDown."""
        return await self.execute("EVALSHA", sha, numkeys, *keys_and_args)

    async def eval(self, script: str, numkeys: int, *keys_and_args: Argument) -> Any:
        """What a script returns; the server has it from then on. Raises OnlineStoreDown."""
        return await self.execute("EVAL", script, numkeys, *keys_and_args)

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close(OnlineStoreDown("the client is closed"))
            await asyncio.sleep(0)  # the loop closes the socket at its next turn, which may be its last

    async def _connected(self) -> _Connection:
        if self._connection is not None and self._connection.usable:
            return self._connection
        clock = asyncio.get_running_loop().time
        came = clock()
        async with self._connecting:  # one makes it, the others find it made
            if self._connection is None or not self._connection.usable:
                if self._failed is not None and self._failed[0] >= came:
                    # Tried while this one waited: one after another they would wait for a timeout each.
                    raise OnlineStoreDown(f"connecting: {self._failed[1]}")
                try:
                    async with asyncio.timeout(self._timeout_s):
                        self._connection = await self._connect()
                except (OSError, TimeoutError, OnlineStoreDown) as error:
                    self._failed = clock(), f"{type(error).__name__}: {error}"
                    if isinstance(error, OnlineStoreDown):
                        raise
                    raise OnlineStoreDown(f"connecting: {self._failed[1]}") from error
            return self._connection

    async def _connect(self) -> _Connection:
        loop, address = asyncio.get_running_loop(), self._address
        if "path" in address:
            _, connection = await loop.create_unix_connection(lambda: _Connection(loop), address["path"])
        else:
            _, connection = await loop.create_connection(
                lambda: _Connection(loop), address.get("host", "localhost"), address.get("port", 6379), ssl=self._tls()
            )
        try:
            if address.get("password"):
                names = [address["username"]] if address.get("username") else []
                await connection.execute(("AUTH", *names, address["password"]), self._timeout_s)
            if address.get("db"):
                await connection.execute(("SELECT", int(address["db"])), self._timeout_s)
        except BaseException:
            connection.close(OnlineStoreDown("it was not let in"))
            raise
        return connection

    def _tls(self) -> ssl.SSLContext | None:
        if self._address.get("connection_class") is not SSLConnection:
            return None
        context = ssl.create_default_context(cafile=self._address.get("ssl_ca_certs"))
        if self._address.get("ssl_cert_reqs") == "none":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class _Connection(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.usable = False
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._answers = hiredis.Reader()
        self._due: deque[asyncio.Future[Any]] = deque()

    async def execute(self, command: tuple[Argument, ...], timeout_s: float) -> Any:
        (answer,) = self.send([command])
        return await self.wait(command, answer, timeout_s)

    def send(self, commands: Sequence[tuple[Argument, ...]]) -> list[asyncio.Future[Any]]:
        """Write the commands; gives what their answers will be in."""
        if self._transport is None:
            raise OnlineStoreDown("the connection is closed")
        answers: list[asyncio.Future[Any]] = [self._loop.create_future() for _ in commands]
        self._due += answers
        packed = map(hiredis.pack_command, commands)  # type: ignore[arg-type]  # the stub says one argument
        self._transport.write(b"".join(packed))
        return answers

    async def wait(self, command: tuple[Argument, ...], answer: asyncio.Future[Any], timeout_s: float) -> Any:
        """The answer to a command that was sent."""
        if answer.done():
            found = answer.result()
        else:
            timer = self._loop.call_later(timeout_s, self._late, answer, timeout_s)
            try:
                found = await answer
            finally:
                timer.cancel()
        if isinstance(found, hiredis.ReplyError):
            if str(found).startswith("NOSCRIPT"):
                raise NoScriptError(str(found)) from found
            raise OnlineStoreDown(f"{command[0]!s}: {found}") from found
        return found

    def close(self, error: OnlineStoreDown) -> None:
        """Fail whatever waits."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        while self._due:
            answer = self._due.popleft()
            if not answer.done():  # its caller may have given up
                answer.set_exception(error)

    def _late(self, answer: asyncio.Future[Any], timeout_s: float) -> None:
        if not answer.done():
            self.close(OnlineStoreDown(f"no answer within {timeout_s:g} s"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not descend from asyncio's, though they do the same
        self._transport, self.usable = cast(asyncio.Transport, transport), True

    def connection_lost(self, error: Exception | None) -> None:
        self.close(OnlineStoreDown(f"the connection broke: {error or 'closed by the server'}"))

    def data_received(self, data: bytes) -> None:
        try:
            self._answers.feed(data)
            while (found := self._answers.gets()) is not False:
                answer = self._due.popleft()
                if not answer.done():
                    answer.set_result(found)
        except (hiredis.ProtocolError, IndexError) as error:
            self.close(OnlineStoreDown(f"the answer is none of Redis: {error}"))
