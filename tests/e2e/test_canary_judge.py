"""A canary under load, with real processes and visitors who click by the shop's truth: promoted or rolled back.

Two gateways, which nobody tells anything: they find each step, and the end, in the model store.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.canary_shop import SERVICE, CanaryShop, Course, canary_shop, steadiness
from cascade.canary import record as records

RATE = 25.0
"""Lists a second."""
JUDGE: dict[str, object] = {
    "canary_steps": [10.0, 50.0, 100.0],
    "canary_pause_s": 4.0,
    "canary_look_s": 0.5,
    "canary_limit_s": 120.0,
    "canary_click_wait_s": 1.0,
    "canary_min_alarm": 8,
    "canary_min_calls": 15,
    "canary_min_users": 50,
}

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def shop(state_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CanaryShop]:
    """Over a copy of the tiny shop, whose ranker is taught first: the tiny build's is no better than a random one.

    Stages have much time: on a busy machine none of them is to be late.
    """
    patient = {
        f"CASCADE_GATEWAY_{stage}_TIMEOUT_MS": "10000"
        for stage in ("FEATURES", "RETRIEVAL", "FILTER", "RANKER", "WRITE")
    }
    patient["CASCADE_GATEWAY_DEADLINE_MS"] = "20000"
    with canary_shop(state_dir, tmp_path_factory.mktemp("canary"), JUDGE, teach=40, **patient) as running:
        yield running


def tried(shop: CanaryShop, version: str) -> Course:
    """The version's course; whatever became of it, no visitor has noticed."""
    course = shop.tried(version, RATE)
    print(f"{course.ending.state} after {course.seconds:.1f} s, off in {course.off_s:.1f} s: {course.ending.reason}")
    assert course.failed == 0
    assert course.degraded == 0
    assert course.off_s < 10
    assert shop.store.alias(SERVICE, "canary") is None
    kept = records.read(shop.store, SERVICE)
    assert kept is not None
    assert kept.verdict == course.ending.reason
    found = steadiness(course)
    assert (found.strays, found.flips) == (0, 0)
    assert found.share_off < 0.5
    return course


def test_a_good_version_is_promoted_and_nobody_changes_track_within_a_step(shop: CanaryShop) -> None:
    version = shop.variant("good")
    course = tried(shop, version)
    assert course.ending.state == "promoted", course.ending.reason
    assert shop.store.alias(SERVICE, "stable") == version
    assert steadiness(course).lists > 0
    assert {shown.tracks[SERVICE] for _, shown in course.shown} == {"stable", "canary"}


@pytest.mark.parametrize(
    ("name", "harm", "signal"),
    [
        ("slow", {"slow_s": 0.9}, "p99"),
        ("erring", {"failing": True}, "errors"),
        ("random", {"random_": True}, "click-through"),
    ],
)
def test_a_harmful_version_is_rolled_back_by_its_signal(
    shop: CanaryShop, name: str, harm: dict[str, Any], signal: str
) -> None:
    stable = shop.store.alias(SERVICE, "stable")
    course = tried(shop, shop.variant(name, **harm))
    assert course.ending.state == "aborted"
    assert course.ending.reason.startswith(f"{signal}:"), course.ending.reason
    assert course.ending.canary.percent == 0
    assert shop.store.alias(SERVICE, "stable") == stable
