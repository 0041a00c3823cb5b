"""A canary of the ranker, tried on visitors: a good version, and three that harm, each in its own way."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.canary_shop import CanaryShop, Course, Steadiness, canary_shop, steadiness
from bench.report import Report
from bench.system import built, state_folder
from cascade.canary.evalues import Counts
from cascade.canary.signals import SignalName

RATE = 40.0
JUDGE: dict[str, object] = {
    "canary_pause_s": 10.0,
    "canary_look_s": 1.0,
    "canary_limit_s": 900.0,
    "canary_click_wait_s": 2.0,
    "canary_min_calls": 20,
    "canary_min_users": 200,
}
VERSIONS: dict[str, dict[str, object]] = {
    "good": {},
    "slow": {"slow_s": 0.25},
    "erring": {"failing": True},
    "random": {"random_": True},
}
WANTED = {"good": "promoted", "slow": "p99", "erring": "errors", "random": "click-through"}
_PATIENT_MS = "5000"


def run(report: Report) -> None:
    """Try each, and tell."""
    settings = JUDGE | ({"canary_steps": [10.0, 50.0, 100.0]} if report.quick else {})
    stages = ("FEATURES", "RETRIEVAL", "FILTER", "RANKER", "WRITE")
    # What is late on a machine that others keep busy is not the canary's fault.
    patient = {f"CASCADE_GATEWAY_{stage}_TIMEOUT_MS": _PATIENT_MS for stage in stages}
    patient["CASCADE_GATEWAY_DEADLINE_MS"] = str(4 * int(_PATIENT_MS))
    courses: dict[str, tuple[Course, Steadiness]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        canary_shop(built(state_folder()), Path(folder), settings, **patient) as shop,
    ):
        for name, harm in VERSIONS.items():
            course = shop.tried(shop.variant(name, **harm), RATE)  # type: ignore[arg-type]
            courses[name] = course, steadiness(course)
            print(f"{name}: {course.ending.state} after {course.seconds:.0f} s: {course.ending.reason}", flush=True)
        tell(report, shop, courses)


def tell(report: Report, shop: CanaryShop, courses: dict[str, tuple[Course, Steadiness]]) -> None:
    """Figures and the table."""
    settings = shop.settings
    report.say(
        f"{len(shop.gateways)} gateways, retrieval, filter, a ranker and Redis as processes; visitors come at {RATE:g} "
        "a second, half of them known to the shop, and click by the truth of the built-in shop. Steps "
        f"{', '.join(f'{step:g} %' for step in settings.canary_steps)}, {settings.canary_pause_s:g} s each at least, a "
        f"look every {settings.canary_look_s:g} s; false alarms {settings.canary_false_alarms:.0%} over all looks. The "
        "gateways are told nothing: they find out by looking at the store.",
        "`slow`: each answer is held back 250 ms; `erring`: each answer is an error; `random`: the weights of a "
        "network that has learned nothing. The ranker is the real one, behind a layer that harms a version's answers.",
    )
    report.table(
        (
            "version",
            "ended",
            "at",
            "after",
            "why",
            "gateways off in",
            "lists",
            "failed or degraded",
            "of the canary's users",
        ),
        [
            (
                name,
                course.ending.state,
                f"{course.ending.record.percent:g} %",
                f"{course.seconds:.0f} s",
                course.ending.reason.split("; a false alarm")[0],
                f"{course.off_s:.1f} s",
                f"{len(course.answers):,}",
                course.faults,
                course.harmed,
            )
            for name, (course, _) in courses.items()
        ],
    )
    for name, (course, steady) in courses.items():
        right = course.ending.state == WANTED[name] or course.ending.reason.startswith(WANTED[name])
        report.figure(f"{name}.right", float(right), "", at_least=1, note=f"ended by {WANTED[name]}")
        report.figure(f"{name}.off", course.off_s, "s", at_most=10, note="until the last gateway sent nobody there")
        report.figure(f"{name}.failed", course.failed + course.degraded, "lists", at_most=0, note="failed or degraded")
        report.figure(f"{name}.harmed", course.harmed, "lists", at_most=0, note="of them, of users who had the canary")
        report.figure(f"{name}.strays", steady.strays + steady.flips, "users", at_most=0, note="of the other track")
        report.figure(f"{name}.share", steady.share_off, "points", at_most=0.5, note="the draw, of 100,000 users")
    report.say("## What the judge had seen at the end")
    signals: tuple[SignalName, ...] = ("errors", "degraded", "p99", "clicks")
    report.table(
        ("version", *(f"{signal}, canary / stable" for signal in signals)),
        [(name, *(_shares(course, signal) for signal in signals)) for name, (course, _) in courses.items()],
    )


def _shares(course: Course, signal: SignalName) -> str:
    """Bad outcomes of both, of the last step; of clicks, the good ones."""
    test = course.ending.record.tests.get(signal)
    counts = Counts() if test is None else test.total
    parts = [(counts.canary_bad, counts.canary), (counts.stable_bad, counts.stable)]
    if signal == "clicks":
        parts = [(whole - part, whole) for part, whole in parts]
    return " / ".join(f"{part / whole:.1%} of {whole:,.0f}" if whole else "–" for part, whole in parts)
