"""The local run as commands see it: plan, up, detach, down, one part down or up."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from cascade.local.errors import AlreadyRunning, NotRunning, PartFailed, StopFailed
from cascade.local.parts import (
    GATEWAY,
    absolute,
    build_command,
    dagster_part,
    features_part,
    one_process_part,
    redis_address,
    redis_part,
    service_parts,
)
from cascade.local.probes import http_url, redis_probe
from cascade.local.processes import end, of_run
from cascade.local.state import RunFolder, RunStatus
from cascade.local.supervisor import Plan, Supervisor, last_lines
from cascade.settings import Settings

POLL_S = 0.1
STOP_LIMIT_S = 90.0
PART_LIMIT_S = 60.0


@dataclass(frozen=True)
class Options:
    """What `cascade up` is asked for."""

    one_process: bool = False
    dagster: bool = True


def run_folder(settings: Settings) -> RunFolder:
    """Where this state folder's run keeps its files."""
    return RunFolder(absolute(settings).run_dir)


def plan(settings: Settings, options: Options) -> Plan:
    """Redis, unless one is given; the build; the services; the features worker; Dagster."""
    settings = absolute(settings)
    token = secrets.token_urlsafe(32)
    services = [one_process_part(settings, token)] if options.one_process else service_parts(settings, token)

    def prepare() -> None:
        run_folder(settings).write_token(token)
        require_redis(settings)

    return Plan(
        before=[] if settings.redis_url is not None else [redis_part(settings)],
        build=build_command(settings),
        after=[*services, features_part(settings, token), *([dagster_part(settings)] if options.dagster else [])],
        prepare=prepare,
        shop=str(settings.dataset_dir),
    )


def require_redis(settings: Settings) -> None:
    """A Redis that the settings name must answer. Raises PartFailed."""
    if settings.redis_url is not None and not redis_probe(settings.redis())():
        raise PartFailed(
            f"the Redis at {redis_address(settings.redis())} does not answer; start it, "
            "or unset CASCADE_REDIS_URL to let Cascade start one of its own"
        )


def up(settings: Settings, options: Options, console: Console, *, in_background: bool = False) -> None:
    """Bring everything up and stay until a signal ends it.

    in_background: once ready, let go of the terminal and write to `supervisor.log`

    Raises LocalError. A run that is ready already is no error: its addresses are printed.
    """
    folder = run_folder(settings)
    if already_ready(folder, settings, console):
        return
    folder.path.mkdir(parents=True, exist_ok=True)

    def ready() -> None:
        if in_background:
            _leave_terminal(folder.log("supervisor"))
        else:
            announce(settings, folder, console)
            console.print("Ctrl-C stops everything.")

    Supervisor(folder, plan(settings, options), console, on_ready=ready).run()
    console.print("Everything is stopped.")


def already_ready(folder: RunFolder, settings: Settings, console: Console) -> bool:
    """Whether a run is up, which is then shown. Raises AlreadyRunning while one comes up or goes down."""
    if not folder.is_held():
        return False
    status = folder.read()
    if status is None or status.phase != "ready":
        phase = "starting" if status is None else status.phase
        raise AlreadyRunning(
            f"another `cascade up` holds {folder.path.parent} and is {phase}; wait for it, or `cascade down`"
        )
    wanted = str(absolute(settings).dataset_dir)
    if status.shop not in ("", wanted):
        raise AlreadyRunning(f"Cascade already runs with the shop at {status.shop}; `cascade down` before another shop")
    console.print(f"Cascade already runs (process {status.pid}).")
    announce(settings, folder, console)
    return True


def detach(command: Sequence[str], environment: Mapping[str, str], settings: Settings, console: Console) -> bool:
    """Start `command` (this program's own `up`, in the background) and wait until its run is ready.

    False when it ended instead; it has printed why. A Ctrl-C while waiting stops it again.
    """
    folder = run_folder(settings)
    if already_ready(folder, settings, console):
        return True
    supervisor = subprocess.Popen(
        list(command), env={**os.environ, **environment}, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while not _is_ready(folder, supervisor.pid):
            if supervisor.poll() is not None:
                return False
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        supervisor.terminate()
        supervisor.wait()
        raise
    announce(settings, folder, console)
    console.print("It runs in the background; `cascade down` stops it.")
    return True


def down(settings: Settings, console: Console) -> None:
    """Stop the run and wait until none of its processes is left.

    What a killed supervisor left behind is ended too. Raises StopFailed when something will not end.
    """
    folder = run_folder(settings)
    status = folder.read()
    if not folder.is_held():
        left = of_run(status.run_id) if status is not None else []
        if left:
            end(left, grace_s=5.0)
            folder.remove_table()
            console.print(f"Ended {len(left)} processes that a killed run had left behind.")
        else:
            console.print("Cascade does not run.")
        return
    if status is None:
        raise StopFailed(f"a supervisor holds {folder.path} and has not said who it is yet; try again")
    _signal(status.pid)
    with console.status("Stopping …"):
        _until(
            lambda: not folder.is_held() and not of_run(status.run_id),
            STOP_LIMIT_S,
            lambda: StopFailed(f"process {status.pid} did not stop within {STOP_LIMIT_S:.0f} s"),
        )
    console.print("Everything is stopped.")


def stop_part(settings: Settings, name: str) -> None:
    """Take one part down and leave it down. Raises NotRunning, UnknownPart, StopFailed."""
    folder = run_folder(settings)
    folder.running().part(name)
    folder.mark_stopped(name)
    _until(
        lambda: folder.running().part(name).state == "stopped",
        PART_LIMIT_S,
        lambda: StopFailed(f"{name} did not stop within {PART_LIMIT_S:.0f} s"),
    )


def start_part(settings: Settings, name: str) -> None:
    """Bring one part up again and wait until it is ready. Raises NotRunning, UnknownPart, PartFailed."""
    folder = run_folder(settings)
    log = Path(folder.running().part(name).log)
    folder.unmark(name)
    _until(
        lambda: folder.running().part(name).state == "running",
        PART_LIMIT_S,
        lambda: PartFailed(
            f"{name} was not ready after {PART_LIMIT_S:.0f} s; the end of its log ({log}):\n{last_lines(log)}"
        ),
    )


def announce(settings: Settings, folder: RunFolder, console: Console) -> None:
    """The addresses of the run, and how to call it."""
    table = Table(title="Cascade", title_justify="left")
    table.add_column("part")
    table.add_column("address", no_wrap=True)
    for part in (folder.read() or RunStatus(run_id="", pid=0, phase="ready")).parts:
        table.add_row(part.name, part.address)
    console.print(table)
    url = http_url(settings.host, settings.gateway_port)
    console.print(f"Open the storefront: {url}/", soft_wrap=True)
    console.print("Ask for a list, as a visitor nobody knows:")
    # Not wrapped: it is there to be copied.
    console.print(example_call(url), soft_wrap=True, highlight=False, markup=False)
    console.print(f"Documentation of the API: {url}/docs", soft_wrap=True)
    console.print("API keys are not asked for: this is the local profile, for you alone (docs/security.md).")


def example_call(gateway_url: str) -> str:
    """A request for a shell."""
    body = '{"user_id": "new-visitor", "device_type": "mobile", "k": 10}'
    return f"  curl -s {gateway_url}/v1/recommendations -H 'content-type: application/json' -d '{body}'"


def gateway_url(settings: Settings) -> str:
    """Where the gateway of the local run listens."""
    return http_url(settings.host, getattr(settings, f"{GATEWAY}_port"))


def _is_ready(folder: RunFolder, pid: int) -> bool:
    status = folder.read()
    return status is not None and status.pid == pid and status.phase == "ready"


def _signal(pid: int) -> None:
    try:
        psutil.Process(pid).send_signal(signal.SIGTERM)
    except psutil.NoSuchProcess as error:
        raise NotRunning(f"process {pid} is gone already; run `cascade down` again") from error


def _until(holds: Callable[[], bool], limit_s: float, error: Callable[[], Exception]) -> None:
    limit = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > limit:
            raise error()
        time.sleep(POLL_S)


def _leave_terminal(log: Path) -> None:
    """From here on standard output and error go to the log: the terminal, or the pipe of a script, may close."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
