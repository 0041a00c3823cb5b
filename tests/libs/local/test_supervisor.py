"""A real supervisor over small real processes: up, kept up, down, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cascade.local import system
from cascade.local.errors import BuildFailed, NotRunning, PartFailed, PortTaken, UnknownPart
from cascade.local.processes import of_run
from cascade.local.state import RunFolder
from cascade.local.supervisor import Backoff, last_lines
from cascade.online.server import free_port
from cascade.settings import Settings

PROGRAM = """
import json, subprocess, sys, time
from pathlib import Path
from rich.console import Console
from cascade.local.parts import Part
from cascade.local.probes import http_probe
from cascade.local.state import RunFolder
from cascade.local.supervisor import Backoff, Plan, Supervisor

# Answers HTTP, and has a child in a session of its own: the kind that is left behind.
SERVER = '''
import subprocess, sys
from http.server import HTTPServer, SimpleHTTPRequestHandler
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
'''

def part(name, port, program=SERVER):
    url = f"http://127.0.0.1:{port}"
    return Part(name, (sys.executable, "-c", program, str(port)), "127.0.0.1", port, f"CASCADE_{name.upper()}_PORT",
                url, http_probe(url))

asked = json.loads(sys.argv[1])
parts = [part(name, port) for name, port in asked["parts"].items()]
build = [sys.executable, "-c", asked["build"]] if "build" in asked else None
if "broken" in asked:
    parts.append(part("broken", asked["broken"], "print('why it broke'); raise SystemExit(3)"))
plan = Plan(before=parts[:1], after=parts[1:], build=(build, {}) if build else None)
try:
    Supervisor(RunFolder(Path(asked["folder"])), plan, Console(), Backoff(first_s=0.1)).run()
except Exception as error:
    print(f"{type(error).__name__}: {error}")
    raise SystemExit(1)
"""


class Run:
    """A supervisor in a process of its own."""

    def __init__(self, settings, **asked):
        self.folder = RunFolder(settings.run_dir)
        self.parts = {"first": free_port(), "second": free_port()}
        asked = {"folder": str(self.folder.path), "parts": self.parts, **asked}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(asked)], stdout=subprocess.PIPE, text=True
        )
        self.run_id = None

    def until(self, holds):
        limit = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < limit
            time.sleep(0.05)

    def ready(self):
        self.until(
            lambda: ((status := self.folder.read()) and status.phase == "ready") or self.process.poll() is not None
        )
        self.run_id = self.folder.running().run_id
        return self

    def phase(self):
        status = self.folder.read()
        return status.phase if status else None

    def pid(self, name):
        return self.folder.running().part(name).pid

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.communicate(timeout=60)[0]


@pytest.fixture
def settings(tmp_path):
    return Settings(state_dir=tmp_path)


@pytest.fixture
def start(settings):
    runs = []

    def starting(**asked):
        runs.append(Run(settings, **asked))
        return runs[-1]

    yield starting
    for run in runs:
        if run.process.poll() is None:
            run.end()
        run.process.stdout.close()  # a killed one's is still open
        if run.run_id:
            assert of_run(run.run_id) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_and_down_leaves_nothing(start, number):
    run = start().ready()
    assert len(of_run(run.run_id)) == 4  # two servers, a stray child each
    assert "Stopping" in run.end(number)
    assert run.process.returncode == 0
    assert of_run(run.run_id) == []
    assert run.folder.read() is None


def test_a_killed_supervisor_leaves_nothing(start):
    run = start().ready()
    run.end(signal.SIGKILL)
    run.until(lambda: of_run(run.run_id) == [])


def test_a_part_that_dies_is_started_again(start):
    run = start().ready()
    before = run.pid("second")
    os.kill(before, signal.SIGKILL)
    run.until(lambda: run.pid("second") not in (before, None))
    run.until(lambda: run.folder.running().part("second").state == "running")
    assert run.folder.running().part("second").restarts == 1
    assert "second ended with exit code -9" in run.end()


def test_one_part_is_stopped_and_started(start, settings):
    run = start().ready()
    other, pid = run.pid("first"), run.pid("second")
    system.stop_part(settings, "second")
    assert not psutil.pid_exists(pid)
    time.sleep(0.5)
    assert run.folder.running().part("second").state == "stopped"
    system.start_part(settings, "second")
    assert run.pid("second") != pid
    assert run.pid("first") == other
    with pytest.raises(UnknownPart):
        system.stop_part(settings, "third")


def test_down_waits_until_everything_is_gone(start, settings, quiet):
    run = start().ready()
    system.down(settings, quiet)
    assert of_run(run.run_id) == []
    assert not run.folder.is_held()
    system.down(settings, quiet)
    with pytest.raises(NotRunning):
        system.stop_part(settings, "first")


def test_a_second_supervisor_is_refused(start):
    run = start().ready()
    second = start()
    assert "AlreadyRunning" in second.process.communicate(timeout=60)[0]
    assert second.process.returncode == 1
    assert run.process.poll() is None


def test_a_taken_port_names_its_setting(start):
    holder = start().ready()
    other = Run(Settings(state_dir=holder.folder.path / "other"), parts=holder.parts)
    output = " ".join(other.process.communicate(timeout=60)[0].split())
    assert PortTaken.__name__ in output
    assert "CASCADE_FIRST_PORT" in output


def test_a_part_that_ends_while_starting_shows_its_log(start):
    run = start(broken=free_port())
    output = run.process.communicate(timeout=60)[0]
    assert run.process.returncode == 1
    assert PartFailed.__name__ in output
    assert "why it broke" in output
    assert not run.folder.is_held()


def test_the_build_runs_between_and_its_failure_ends_the_run(start, tmp_path):
    mark = tmp_path / "built"
    run = start(build=f"open({str(mark)!r}, 'w')").ready()
    assert mark.exists()
    run.end()
    run = start(build="raise SystemExit(4)")
    output = run.process.communicate(timeout=60)[0]
    assert BuildFailed.__name__ in output
    assert "exit code 4" in output


def test_a_signal_ends_the_build_too(start, tmp_path):
    mark = tmp_path / "building"
    run = start(build=f"import time; open({str(mark)!r}, 'w'); time.sleep(600)")
    run.until(mark.exists)
    run_id = run.folder.read().run_id
    run.end()
    assert of_run(run_id) == []


def test_backoff_doubles_up_to_its_bound():
    assert [Backoff(0.5, 3.0).delay_s(failures) for failures in (1, 2, 3, 4, 40)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_last_lines(tmp_path: Path):
    log = tmp_path / "a.log"
    assert last_lines(log) == ""
    log.write_text("\n".join(str(number) for number in range(100)))
    assert last_lines(log, 2) == "98\n99"
