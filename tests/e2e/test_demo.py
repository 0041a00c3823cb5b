"""The tour on a running system: what it shows is so, its commands work, and it leaves behind what it says.

A day is not learned here: that takes a minute, and tests/e2e/test_daily_loop.py learns three of them.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from cascade.store import ModelStore
from cascade.store import canary as canaries
from tests.e2e.canaries import share_is, versions_of

pytestmark = pytest.mark.timeout(600)


def flat(told: str) -> str:
    """In one line, however narrow the terminal was."""
    return " ".join(told.split())


def curls(told: str) -> list[str]:
    return [line.strip() for line in told.splitlines() if line.strip().startswith("curl ")]


@pytest.fixture(scope="module")
def store(system: Any) -> ModelStore:
    return ModelStore(system.settings.model_store_url)


@pytest.fixture(scope="module")
def told(system: Any, store: ModelStore) -> str:
    """What the tour prints, from its first chapter to its last."""
    store.versions("ranker")
    return str(system.cascade("demo", "--no-pause"))


def test_every_chapter_shows_and_tells(told: str) -> None:
    told = flat(told)
    chapters = (
        "A visitor whom the shop knows",
        "A new visitor: morning on a phone, evening at a desktop",
        "What was seen leaves",
        "Preferences shift",
        "A day is learned",
        "A canary",
    )
    places = [told.index(chapter) for chapter in chapters]
    assert places == sorted(places)
    assert told.count("Look at: ") == 6
    assert "No: nobody is asked (--yes agrees)." in told
    assert "Both are gone." in told
    assert len(re.findall(r"\d+ of 10 items stand in both lists", told)) == 4
    assert re.search(r"Top category now: [\w ]+, \d+\.\d s after the first click", told)
    assert "This list was made without" not in told
    share = re.search(r"Of 40 visitors (\d+) get the canary", told)
    assert share is not None
    assert 1 <= int(share[1]) <= 25
    assert "was made by stable" not in told
    assert "Everybody is served by stable again." in told


def test_the_shift_follows_the_clicks(told: str) -> None:
    told = flat(told)
    clicked = re.search(r"5 clicks on ([\w ]+):", told)
    top = re.search(r"Top category now: ([\w ]+),", told)
    assert clicked is not None
    assert top is not None
    assert clicked[1] == top[1]


def test_its_commands_can_be_copied(told: str) -> None:
    commands = [command for command in curls(told) if "/v1/recommendations" in command]
    assert len(commands) == 7
    for command in (*commands[:3], *commands[-2:]):
        answer = json.loads(subprocess.run(command, shell=True, capture_output=True, check=True, text=True).stdout)  # noqa: S602
        assert len(answer["items"]) == 10


def test_it_leaves_what_it_found(told: str, system: Any, store: ModelStore) -> None:
    visitor = re.search(r"as the visitor (demo-[0-9a-f]{8})", told)
    assert visitor is not None
    assert f"The shop has forgotten {visitor[1]}." in told
    profile = system.http.get(f"/v1/users/{visitor[1]}").json()
    assert (profile["known"], profile["recent"]) == (False, [])
    assert store.alias("ranker", "canary") is None
    ended = canaries.read(store, "ranker")
    assert ended is not None
    assert (ended.state, ended.reason) == ("aborted", "the tour is over")
    assert versions_of(system) == {"stable": store.alias("ranker", "stable")}
    assert share_is(0.0, system.settings.gateway_port)()
    if "There is one version only" in told:
        assert ended.version not in store.versions("ranker")


def test_chapters_are_left_out_and_a_running_canary_is_left_alone(system: Any, store: ModelStore) -> None:
    stable = store.bundle("ranker", "stable")
    other = store.write(
        "ranker",
        lambda folder: (folder / "nothing.bin").write_bytes(b"held by nobody"),
        training_days=stable.manifest.training_days,
        parent=stable.version,
    ).version
    started = canaries.start(store, "ranker", other, 1)
    try:
        skipped = [word for name in ("known", "newcomer", "seen", "shift") for word in ("--skip", name)]
        told = flat(system.cascade("demo", "--no-pause", *skipped, "--skip", "fine-tune"))
        assert f"{other} is a canary already, for 1 % of the users: it is left alone." in told
        assert "Preferences shift" not in told
        assert canaries.read(store, "ranker") == started
    finally:
        canaries.abort(store, "ranker", "the test is over")
        store.remove("ranker", other)
