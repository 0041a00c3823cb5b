"""Calls over kept-alive TCP connections: HTTP/1.1 with llhttp's parser (httptools, which also reads for uvicorn).

One request at a time on a connection, one write a request, no redirects, cookies or proxies: what two services of one
system need. Processor time of a call of 300 ids: 80 µs, aiohttp 300, httpx over aiohttp 740 (docs/performance.md).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from typing import cast

import httptools

from cascade import deadline
from cascade.serving.calls import Answer, CallError, CallFailed, CallLate, NotConnected, service_address

MAX_CONNECTIONS = 256
KEEP_ALIVE_S = 30.0
"""An idle connection is given up after this; shorter than the services' own, so that no call meets a closing one."""
MAX_ANSWER_BYTES = 16 * 2**20

_LINE = "{}: {}".format


class TcpCaller:
    """A pool of connections to one address.

    url: http://host:port or https://host:port; a path is put before that of each call
    address: the IP address to connect to; none: whatever the URL's host resolves to. The host stays the one that is
        asked for, by the Host header and in TLS
    max_connections: at once; calls beyond wait for one within their time
    keep_alive_s: connections that have been idle for so long are given up with the next answer
    """

    def __init__(
        self,
        url: str,
        *,
        address: str | None = None,
        max_connections: int = MAX_CONNECTIONS,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        parts = service_address(url)
        host = parts.hostname or ""
        self._address = address or host
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._tls_name = host if self._tls else None
        self._prefix = parts.path.rstrip("/")
        self._name = parts.netloc.rpartition("@")[2]
        self._host_line = f"host: {self._name}"
        self._idle: deque[_Connection] = deque()
        self._slots = asyncio.Semaphore(max_connections)
        self._keep_alive_s = keep_alive_s
        self._closed = False

    async def call(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
        repeatable: bool = False,
    ) -> Answer:
        """See Caller. There is one way here, so nothing is repeated."""
        request = self._request(method, path, body, headers, timeout_s)
        loop = asyncio.get_running_loop()
        until, waited = loop.time() + timeout_s, False
        if self._slots.locked():
            await self._turn(method, path, timeout_s)
            waited = True
        else:
            await self._slots.acquire()
        try:
            connection = self._kept(loop.time())
            if connection is None:
                connection = await self._connect(until - loop.time())
                waited = True
            try:
                if waited:  # what is told on is what is left now
                    request = self._request(method, path, body, headers, until - loop.time())
                answer = await connection.exchange(request, until)
            except BaseException:
                connection.abort()  # whatever still arrives belongs to nobody
                raise
            if connection.reusable and not self._closed:
                connection.idle_since = now = loop.time()
                self._idle.append(connection)
                self._let_go(now)
            else:
                connection.abort()
            return answer
        finally:
            self._slots.release()

    async def aclose(self) -> None:
        """Give up the idle connections; those in use go when their calls end."""
        self._closed = True
        while self._idle:
            self._idle.pop().abort()
        await asyncio.sleep(0)  # the loop closes the sockets at its next turn, which may be its last

    def _request(self, method: str, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> bytes:
        lines = [f"{method} {self._prefix}{path} HTTP/1.1", self._host_line, f"content-length: {len(body)}"]
        lines.append(f"{deadline.HEADER}: {max(0, int(1000 * timeout_s))}")
        lines += map(_LINE, headers, headers.values())
        head = "\r\n".join([*lines, "", ""])
        if head.count("\r") != len(lines) + 1 or head.count("\n") != len(lines) + 1 or "\0" in head:
            raise ValueError(f"a line break in the path or a header of {method} {path!r}")
        return head.encode("latin-1") + body

    async def _turn(self, method: str, path: str, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise CallLate(f"no connection free for {method} {path} within {timeout_s:g} s") from error

    def _kept(self, now: float) -> _Connection | None:
        """The connection used last, if it is still good: the fewest stay warm and the others age."""
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and now - connection.idle_since < self._keep_alive_s:
                return connection
            connection.abort()
        return None

    def _let_go(self, now: float) -> None:
        """Those that a busier moment opened and nobody has taken since: the one at the left is idle for longest."""
        while self._idle and (now - self._idle[0].idle_since >= self._keep_alive_s or not self._idle[0].reusable):
            self._idle.popleft().abort()

    async def _connect(self, timeout_s: float) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(loop),
                    self._address,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._tls_name,
                )
                return connection
        except TimeoutError as error:
            raise CallLate(f"no connection to {self._name} within {timeout_s:g} s") from error
        except OSError as error:
            raise NotConnected(f"no connection to {self._name}: {error}") from error


class _Connection(asyncio.Protocol):
    """One connection: bytes of a request out, the answer in."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.idle_since = 0.0
        self.reusable = False
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answer] | None = None
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0

    async def exchange(self, request: bytes, deadline: float) -> Answer:
        """Send and wait until `deadline` (the loop's time). Raises CallError."""
        if self._transport is None:
            raise NotConnected("the connection is closed")
        self.reusable = False
        self._waiting = self._loop.create_future()
        timer = self._loop.call_at(deadline, self._fail, CallLate("no answer in time"))
        self._transport.write(request)
        try:
            return await self._waiting
        finally:
            timer.cancel()
            self._waiting = None

    def abort(self) -> None:
        """Close at once."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _fail(self, error: CallError) -> None:
        self.reusable = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not descend from asyncio's, though they do the same
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._waiting is None or self._parser is None:  # an answer nobody asked for
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(CallFailed(f"the answer is not HTTP: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._parser = None  # which holds this: a circle that would wait for the collector, thousands at a time
        self._fail(CallFailed(f"the connection broke before the answer was whole ({error or 'closed'})"))

    # llhttp

    def on_message_begin(self) -> None:
        self._headers, self._body, self._size = {}, [], 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_ANSWER_BYTES:
            self._fail(CallFailed(f"the answer holds more than {MAX_ANSWER_BYTES:,} bytes"))
            self.abort()
            return
        self._body.append(data)

    def on_message_complete(self) -> None:
        assert self._parser is not None  # noqa: S101  (it calls this)
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue and the like: the answer follows
            return
        if self._waiting is not None and not self._waiting.done():
            self.reusable = self._parser.should_keep_alive() and self._transport is not None
            self._waiting.set_result(Answer(status, b"".join(self._body), self._headers))
