"""`python -m bench.faulty_ranker`: the real ranker, with versions that are slow or fail.

A fault is of a version: `CASCADE_BENCH_FAULTS` names a JSON file, version → seconds that its answers are held back, or
null: they become errors. The ranker below is the one that is served everywhere else, and knows nothing of it.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cascade.serving.run import KEEP_ALIVE_S
from cascade.serving.threads import limit_process
from services.ranker.settings import RankerSettings

FAULTS = "CASCADE_BENCH_FAULTS"
_ROUTE = "/v1/rank"


class Faulty:
    """Passes everything on, and harms the answers of the versions named in the file."""

    def __init__(self, app: ASGIApp, faults: Path) -> None:
        self._app = app
        self._faults = faults
        self._read: tuple[int, dict[str, float | None]] = (0, {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != _ROUTE:
            await self._app(scope, receive, send)
            return
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        await self._app(scope, receive, keep)
        body = b"".join(message.get("body", b"") for message in answer)
        version = json.loads(body).get("version", "")
        faults = self._known()
        if version in faults:
            delay_s = faults[version]
            if delay_s is None:
                refusal = {"type": "http.response.body", "body": b'{"title": "Out of order", "status": 500}'}
                answer = [{**answer[0], "status": 500, "headers": [(b"content-type", b"application/json")]}, refusal]
            else:
                await asyncio.sleep(delay_s)
        for message in answer:
            await send(message)

    def _known(self) -> dict[str, float | None]:
        changed = self._faults.stat().st_mtime_ns
        if changed != self._read[0]:
            self._read = changed, json.loads(self._faults.read_text())
        return self._read[1]


if __name__ == "__main__":
    settings = RankerSettings()
    limit_process(settings.threads)
    from services.ranker.app import create_app

    faulty = Faulty(create_app(settings), Path(os.environ[FAULTS]))
    uvicorn.run(faulty, host=settings.host, port=settings.port, log_level="warning", timeout_keep_alive=KEEP_ALIVE_S)
