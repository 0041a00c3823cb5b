"""Calls to an app in the same process: no socket, no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Scope

from cascade import deadline
from cascade.serving.calls import Answer, CallLate

_ADDRESS = ("127.0.0.1", 0)


class AsgiCaller:
    """Hands requests to an app's own callable."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def call(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
        repeatable: bool = False,
    ) -> Answer:
        """See Caller. A defect in the app is the 500 that it would be over TCP."""
        status, received, answered = 500, bytearray(), {}
        sent = False

        async def receive() -> Message:
            nonlocal sent
            if sent:
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answered.update({k.decode("latin-1").lower(): v.decode("latin-1") for k, v in message["headers"]})
            elif message["type"] == "http.response.body":
                received.extend(message.get("body", b""))

        try:
            async with asyncio.timeout(timeout_s):
                await self._app(_scope(method, path, {**headers, **_time(timeout_s)}, len(body)), receive, send)
        except TimeoutError as error:
            raise CallLate(f"no answer to {method} {path} within {timeout_s:g} s") from error
        return Answer(status, bytes(received), answered)

    async def aclose(self) -> None:
        """Nothing was opened."""


def _time(seconds: float) -> dict[str, str]:
    return {deadline.HEADER: str(max(0, int(1000 * seconds)))}


def _scope(method: str, path: str, headers: Mapping[str, str], length: int) -> Scope:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    path, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [(b"host", b"localhost"), *raw, (b"content-length", str(length).encode())],
        "client": _ADDRESS,
        "server": _ADDRESS,
        "state": {},
    }
