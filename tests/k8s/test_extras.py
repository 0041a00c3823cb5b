"""Each service starts in a fresh virtual environment that holds its own extra and nothing else; so does the client.

Gigabytes and minutes: only with CASCADE_TEST_EXTRAS=1 (all), or =gateway,filter (some). The workflow `images` does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cascade.online.server import free_port

ROOT = Path(__file__).parents[2]
SERVICES = ("gateway", "retrieval", "filter", "ranker", "features")
FOREIGN = {
    "gateway": ("torch", "faiss", "feast", "dagster", "sentence_transformers", "open_clip"),
    "retrieval": ("feast", "dagster", "sentence_transformers", "open_clip"),
    "filter": ("torch", "faiss", "feast", "dagster"),
    "ranker": ("faiss", "feast", "dagster", "sentence_transformers", "open_clip"),
    "features": ("torch", "faiss", "dagster"),
}
ASKED = os.environ.get("CASCADE_TEST_EXTRAS", "")

pytestmark = [
    pytest.mark.skipif(not ASKED, reason="installs gigabytes: set CASCADE_TEST_EXTRAS=1, or to names of services"),
    pytest.mark.timeout(1800),
]


@pytest.mark.parametrize("service", [name for name in SERVICES if ASKED in ("", "1") or name in ASKED.split(",")])
def test_service_starts_with_its_extra_alone(service: str, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CASCADE_"))}
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", f"{ROOT}[{service}]"], check=True, env=clean, cwd=tmp_path
    )

    find = f"from importlib.util import find_spec; print([n for n in {FOREIGN[service]!r} if find_spec(n)])"
    found = subprocess.run([python, "-c", find], check=True, capture_output=True, text=True, env=clean, cwd=tmp_path)
    assert found.stdout.strip() == "[]"

    port = free_port()
    process = subprocess.Popen(
        [python, "-m", f"services.{service}"], env={**clean, f"CASCADE_{service.upper()}_PORT": str(port)}, cwd=tmp_path
    )
    try:
        # without a model store there is nothing to serve: up, and not ready
        assert _answers(f"http://127.0.0.1:{port}/healthz", process)
        process.terminate()
        assert process.wait(60) in (0, -15)
    finally:
        process.kill()
        process.wait()


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the service ended with {process.returncode}"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


@pytest.mark.skipif(ASKED not in ("", "1") and "client" not in ASKED.split(","), reason="not asked for")
def test_the_client_installs_light(tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CASCADE_"))}
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{ROOT}[client]"], check=True, env=clean, cwd=tmp_path)

    program = (
        "from importlib.metadata import distributions; from cascade.client import Client, NoAnswer, Patience;"
        "print(*sorted(one.name.lower() for one in distributions()));"
        "from contextlib import suppress\n"
        "with suppress(NoAnswer): Client('http://127.0.0.1:1', patience=Patience(deadline_s=0)).health()"
    )
    printed = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True, env=clean).stdout
    assert {"httpx", "pydantic", "tenacity"} <= set(printed.split())
    assert not {"numpy", "pyarrow", "fsspec", "fastapi", "redis", "torch", "typer"} & set(printed.split())
