"""What the documentation says to type is typed: every `curl` and every example of the client, against real services.

Nothing is replaced in them but addresses. A block runs in bash as it stands; each curl must succeed and be answered
2xx, and where the page shows an answer, the real one has its keys.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cascade.settings import Settings
from tests.docs.fences import Fence, fences, pages

pytestmark = pytest.mark.timeout(600)

NOT_HERE = {
    (
        "docs/operations.md",
        "kubectl -n cascade port-forward svc/gateway 8000",
    ): "needs a cluster and its gateway",
    ("docs/operations.md", "kubectl -n cascade get ingress gateway"): "needs a cluster with a load balancer",
}
"""(page, a line that marks the block) → why its curl cannot run here. Each must mark exactly one block."""

_ADDRESS = re.compile(r"(?:127\.0\.0\.1|localhost):(\d+)")
_CURL = re.compile(r"\bcurl -")
_PARTS = ("gateway", "retrieval", "filter", "ranker", "features", "dagster")

FENCES = [fence for page in pages() for fence in fences(page)]


def excused(fence: Fence) -> bool:
    return any(fence.page == page and mark in fence.text for page, mark in NOT_HERE)


CURLS = [fence for fence in FENCES if _CURL.search(fence.text) and not excused(fence)]
EXAMPLES = [fence for fence in FENCES if fence.language == "python" and "cascade.client" in fence.text]


def test_every_curl_is_in_a_block_that_runs_or_is_excused() -> None:
    written = sum(len(_CURL.findall(page.read_text())) for page in pages())
    found = sum(len(_CURL.findall(fence.text)) for fence in FENCES if fence.language == "bash")
    assert written == found, "a curl outside a ```bash block is not run"
    assert len(CURLS) > 5
    for page, mark in NOT_HERE:
        assert len([one for one in FENCES if one.page == page and mark in one.text and _CURL.search(one.text)]) == 1


@pytest.fixture(scope="module")
def addressed(system: Any) -> Any:
    """Puts the addresses of the running system in the place of the documented ones."""
    documented = Settings(_env_file=None)
    ports = {getattr(documented, f"{part}_port"): getattr(system.settings, f"{part}_port") for part in _PARTS}
    return lambda text: _ADDRESS.sub(lambda found: f"127.0.0.1:{ports[int(found[1])]}", text)


@pytest.mark.parametrize("fence", CURLS, ids=lambda fence: fence.place)
def test_curl(fence: Fence, addressed: Any, tmp_path: Path) -> None:
    # every curl of the block tells its status on stderr, by curl's own configuration
    (tmp_path / ".curlrc").write_text('write-out = "%{stderr}status %{http_code}\\n"\n')
    environment = {**os.environ, "CURL_HOME": str(tmp_path), "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", addressed(fence.text)],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = re.findall(r"^status (\d+)$", done.stderr, flags=re.MULTILINE)
    assert len(told) == len(_CURL.findall(fence.text))
    assert all(status.startswith("2") for status in told), (told, done.stdout)
    answers = documents(done.stdout)
    assert answers
    if fence.answer is not None:
        assert missing(json.loads(fence.answer), answers[-1]) == []


@pytest.mark.parametrize("fence", EXAMPLES, ids=lambda fence: fence.place)
def test_example_of_the_client(fence: Fence, addressed: Any, system: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", addressed(fence.text)],
        env=system.environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout


def documents(text: str) -> list[Any]:
    """The JSON documents that several curls print one after the other."""
    found, place, decoder = [], 0, json.JSONDecoder()
    while place < len(text.rstrip()):
        document, place = decoder.raw_decode(text, place + (len(text[place:]) - len(text[place:].lstrip())))
        found.append(document)
    return found


def missing(shown: Any, real: Any, path: str = "") -> list[str]:
    """Keys of the answer on the page that the real one lacks; of lists the first elements are compared."""
    if isinstance(shown, dict):
        if not isinstance(real, dict):
            return [f"{path} is {type(real).__name__}"]
        return [
            fault
            for name, value in shown.items()
            for fault in (missing(value, real[name], f"{path}.{name}") if name in real else [f"{path}.{name}"])
        ]
    if isinstance(shown, list):
        if not isinstance(real, list):
            return [f"{path} is {type(real).__name__}"]
        return missing(shown[0], real[0], f"{path}[0]") if shown and real else [f"{path} is empty"] if shown else []
    return []


def test_a_key_that_is_not_there_is_found() -> None:
    real = {"items": [{"item_id": "i"}], "total": 1}
    assert missing({"items": [{"item_id": "x"}]}, real) == []
    assert missing({"items": [{"titel": "x"}], "sum": 1}, real) == [".items[0].titel", ".sum"]
    assert missing({"items": [{"item_id": "x"}]}, {"items": []}) == [".items is empty"]
    assert missing({"total": {"a": 1}}, real) == [".total is int"]
    assert documents('{"a": 1}\n{"b": 2}') == [{"a": 1}, {"b": 2}]
