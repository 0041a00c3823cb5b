"""uvicorn's HTTP protocol with a short way for plain requests of hot routes (cascade.serving.direct).

Between two messages of a connection the next bytes are looked at; if they are one whole plain request, it is answered
from them. All else goes to uvicorn's parser and ASGI as before: other routes, unusual heads, requests in pieces.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from cascade.serving.direct import DirectRoutes, PlainRequest, Reading
from cascade.serving.hot import ServiceApp


class DirectProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._direct: DirectRoutes | None = None
        if isinstance(self.app, ServiceApp) and self.limit_concurrency is None and not self.root_path:
            self._direct = self.app.direct
        self._between_messages = True  # as uvicorn's parser sees it
        self._part = b""  # a plain request whose body is still on the way
        self._held = b""  # what came while a request was in hand
        self._in_hand: asyncio.Task[None] | None = None
        self._last = False  # close after the request in hand
        self._idle_since = 0.0

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # uvicorn leaves the timer of a connection that was reset, and with it the connection, for the whole idle time
        self._unset_keepalive_if_required()
        self._part = self._held = b""

    def data_received(self, data: bytes) -> None:
        if self._direct is None:
            super().data_received(data)
            return
        if self._in_hand is not None:
            self._held += data
            self.flow.pause_reading()
            return
        if self._is_idle():
            data, self._part = self._part + data, b""
            request = self._direct.read(data)
            if isinstance(request, PlainRequest):
                self._start(self._direct, request)
                return
            if request is Reading.PART:
                self._part = data
                return
        super().data_received(data)

    def shutdown(self) -> None:
        if self._in_hand is not None:
            self._last = True
            return
        if self._part:  # in uvicorn's hands it is waited for, and its connection closed after the answer
            part, self._part = self._part, b""
            super().data_received(part)
        super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        # One timer looks again when it fires, instead of one set and cancelled for each request.
        self.timeout_keep_alive_task = None
        if self._in_hand is not None or self._part:
            return  # the answer sets it anew
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._watch_idleness(left)
        else:
            super().timeout_keep_alive_handler()

    def on_message_begin(self) -> None:
        self._between_messages = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._between_messages = True
        super().on_message_complete()

    def _is_idle(self) -> bool:
        answered = self.cycle is None or self.cycle.response_complete
        return self._between_messages and answered and not self.pipeline

    def _start(self, direct: DirectRoutes, request: PlainRequest) -> None:
        refusal = direct.refusal(request)
        if refusal is not None:
            self._finish(refusal)
            return
        self._in_hand = self.loop.create_task(self._answer(direct, request))
        self.tasks.add(self._in_hand)  # uvicorn waits for these when it shuts down

    async def _answer(self, direct: DirectRoutes, request: PlainRequest) -> None:
        task, content = self._in_hand, b""
        try:
            content = await direct.answer(request)
            if self.flow.write_paused:
                await self.flow.drain()
        finally:
            if task is not None:
                self.tasks.discard(task)
            self._in_hand = None
            if not content:  # cancelled, or a defect in answering: the caller must not wait
                self.transport.close()
        self._finish(content)

    def _finish(self, content: bytes) -> None:
        """Write the answer and take the next request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self._last:
            # The caller learns it from the closing itself; a request it sends meanwhile was not begun.
            self.transport.write(content.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
            self.transport.close()
            return
        self.transport.write(content)
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch_idleness(self.timeout_keep_alive)
        self.flow.resume_reading()
        if self._held:
            held, self._held = self._held, b""
            self.data_received(held)

    def _watch_idleness(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)
