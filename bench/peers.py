"""`python -m bench.peers tcp|http PORT`: the other end of a round trip, a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cascade.online.server import free_port

ANSWER = b"y" * 9_000
"""about what 300 ids and scores take as JSON"""

_START_S = 30.0


@contextmanager
def peer(kind: str) -> Iterator[int]:
    """The port of a running peer, which is stopped at the end."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.peers", kind, str(port)])
    try:
        _wait(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the other end of the round trip did not start within {_START_S:.0f} s")


def tcp(port: int) -> None:
    """Answers whatever arrives, one connection after the other."""
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            line, _ = server.accept()
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with line:
                while line.recv(4_096):
                    line.sendall(ANSWER)


def http(port: int) -> None:
    """The smallest app on the server that the services use."""
    import uvicorn

    headers = [(b"content-length", str(len(ANSWER)).encode())]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": ANSWER})

    uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", lifespan="off", log_config=None)


if __name__ == "__main__":
    {"tcp": tcp, "http": http}[sys.argv[1]](int(sys.argv[2]))
