"""A TCP proxy that harms what passes: it delays answers and breaks connections."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

_CHUNK = 65_536
_WITH_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends a reset instead of an end."""


class HarmfulProxy:
    """Stands before `host:port`, on a port of its own. Change the attributes while it runs.

    delay_s: how long each piece of an answer is held back; the next one is not held up by it
    resets: whether connections are broken, with a reset, as soon as something is asked on them
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.delay_s = 0.0
        self.resets = False
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        """Where it listens; after `start`."""
        if self._server is None:
            raise RuntimeError("the proxy was not started")
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)

    async def aclose(self) -> None:
        """Break every connection and listen no more."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, back}
        self._open |= ends
        try:
            asked = asyncio.create_task(self._copy(reader, back, delayed=False))
            answered = asyncio.create_task(self._copy(there, writer, delayed=True))
            await asyncio.wait({asked, answered}, return_when=asyncio.FIRST_COMPLETED)
            for task in (asked, answered):
                task.cancel()
                with suppress(asyncio.CancelledError, OSError):
                    await task
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, delayed: bool) -> None:
        loop, held = asyncio.get_running_loop(), asyncio.Queue[tuple[float, bytes]]()

        async def send() -> None:
            while True:
                due, data = await held.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                writer.write(data)
                await writer.drain()

        sending = asyncio.create_task(send())
        try:
            while data := await reader.read(_CHUNK):
                if self.resets:
                    for end in self._open:
                        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _WITH_RESET)
                    return
                held.put_nowait((loop.time() + (self.delay_s if delayed else 0.0), data))
        finally:
            sending.cancel()
