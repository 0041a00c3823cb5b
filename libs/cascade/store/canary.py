"""The canary of a service: a candidate beside what is stable, and the share of users who get it.

`<store>/<service>/canary.json` tells the share, for the gateways; the alias `canary` names the version, for the
services' replicas, which hold it beside the stable one for as long as the alias is there. The file is replaced
atomically and so is the alias; the two together are not. The order of writes is chosen so that a crash between them
leaves nobody asking for what no replica holds:

| step | writes | after a crash in between |
| --- | --- | --- |
| start | alias := the version, then its share | replicas hold it and nobody is sent there; start again |
| advance | its share | |
| abort | share := 0 with the reason, then the alias goes | nobody is sent there; abort again removes the alias |
| promote | stable := the version, then share := 0, then the alias goes | the version serves; promote again |

On a local store one change at a time is made. On an object store the last writer wins: an abort at the very moment of
an advance may leave a share of users for an alias that is gone, and they are answered from stable.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from cascade.store.errors import CanaryRefused, CanaryRuns, CanaryUnreadable, NoCanary
from cascade.store.model_store import CANARY, PREVIOUS, STABLE, ModelStore
from cascade.store.release import Release, promote_while_changing, verified

CANARIED = ("retrieval", "ranker")
"""Services whose replicas hold a canary. The gateway's bundle is released at once: it is what a shop shows of items."""

State = Literal["running", "promoted", "aborted"]
Clock = Callable[[], float]
"""UTC seconds since 1970."""

_NOTE = "canary.json"
_ALL = 100.0


@dataclass(frozen=True)
class Canary:
    """What the store says of a service's last canary.

    percent: share of users whose requests it answers, 0 to 100; 0 once it has ended
    step: how often the share was set, from 0
    reason: why it was aborted; empty otherwise
    started, changed: UTC seconds
    """

    version: str
    percent: float
    step: int
    state: State
    reason: str
    started: float
    changed: float

    @property
    def runs(self) -> bool:
        """Whether it has neither been promoted nor aborted."""
        return self.state == "running"


_CANARY = TypeAdapter(Canary)


def read(store: ModelStore, service: str) -> Canary | None:
    """The service's last canary, running or ended; None where there never was one.

    Raises:
        CanaryUnreadable: the file holds something else
        OSError and others: whatever the store's file system raises where it cannot be reached
    """
    content = store.note(service, _NOTE)
    if content is None:
        return None
    try:
        canary = _CANARY.validate_json(content)
    except ValidationError as error:
        raise CanaryUnreadable(
            f"{service}/{_NOTE} tells of no canary ({error.error_count()} faults); remove the file, and start it again"
        ) from error
    if not 0 <= canary.percent <= _ALL:
        raise CanaryUnreadable(
            f"{service}/{_NOTE} tells of {canary.percent:g} % of users; remove the file, and start it again"
        )
    return canary


def start(store: ModelStore, service: str, version: str, percent: float, clock: Clock = time.time) -> Canary:
    """Try a version on `percent` of the users.

    version: one of the store, or what an alias names (`canary`: one that replicas hold already)

    Raises:
        CanaryRuns: there is one already
        CanaryRefused: the service holds none, the version is stable, nothing is, or the percentage is none
        BundleNotFound, BundleRefused: as `release.promote`
    """
    if service not in CANARIED:
        raise CanaryRefused(f"{service!r} has no canary; these have: {', '.join(CANARIED)}")
    _require_share(percent)
    with store.changing(service):
        before = read(store, service)
        if before is not None and before.runs:
            raise CanaryRuns(
                f"{before.version} is the canary of {service!r} for {before.percent:g} % of users; promote or abort it"
            )
        version = verified(store, service, version)
        stable = store.alias(service, STABLE)
        if stable is None:
            raise CanaryRefused(f"{service!r} has no stable version to compare with; promote {version} instead")
        if stable == version:
            raise CanaryRefused(f"{version} is the stable version of {service!r} already; name another one")
        store.set_alias(service, CANARY, version)
        now = clock()
        return _write(store, service, Canary(version, float(percent), 0, "running", "", now, now))


def advance(store: ModelStore, service: str, percent: float, clock: Clock = time.time) -> Canary:
    """Give the canary to more users; who had it keeps it.

    Raises:
        NoCanary: none runs
        CanaryRefused: the percentage is none, or below the present one
    """
    _require_share(percent)
    with store.changing(service):
        canary = _running(store, service)
        if percent < canary.percent:
            raise CanaryRefused(
                f"the canary of {service!r} has {canary.percent:g} % of users; "
                f"it does not shrink to {percent:g} %: give as much or more, or abort it"
            )
        return _write(store, service, replace(canary, percent=float(percent), step=canary.step + 1, changed=clock()))


def abort(store: ModelStore, service: str, reason: str, clock: Clock = time.time) -> Canary:
    """Send nobody to the canary any more, and let go of it. Aborting what is aborted finishes it and keeps its reason.

    Raises:
        NoCanary: there was none, or it has been promoted
    """
    with store.changing(service):
        canary = read(store, service)
        if canary is None or canary.state == "promoted":
            raise _none(service, canary)
        if canary.runs:
            canary = replace(canary, percent=0.0, state="aborted", reason=reason, changed=clock())
            _write(store, service, canary)
        _let_go(store, service, canary)
        return canary


def promote(store: ModelStore, service: str, clock: Clock = time.time) -> Release:
    """Make the canary what is stable, and end it. Promoting what is promoted finishes it.

    Raises:
        NoCanary: there was none, or it has been aborted
        BundleNotFound, BundleRefused: as `release.promote`; the canary goes on
    """
    with store.changing(service):
        canary = read(store, service)
        if canary is None or canary.state == "aborted":
            raise _none(service, canary)
        if not canary.runs:
            stable = store.alias(service, STABLE)
            _let_go(store, service, canary)
            return Release(service, stable or canary.version, store.alias(service, PREVIOUS), changed=False)
        release = promote_while_changing(store, service, canary.version)
        canary = replace(canary, percent=0.0, state="promoted", changed=clock())
        _write(store, service, canary)
        _let_go(store, service, canary)
        return release


def _running(store: ModelStore, service: str) -> Canary:
    canary = read(store, service)
    if canary is None or not canary.runs:
        raise _none(service, canary)
    return canary


def _none(service: str, last: Canary | None) -> NoCanary:
    before = "" if last is None else f"; the last one, {last.version}, was {last.state}"
    return NoCanary(f"no canary of {service!r} runs{before}: start one")


def _let_go(store: ModelStore, service: str, canary: Canary) -> None:
    """Remove the alias, unless it names another version by now."""
    if store.alias(service, CANARY) == canary.version:
        store.remove_alias(service, CANARY)


def _write(store: ModelStore, service: str, canary: Canary) -> Canary:
    store.set_note(service, _NOTE, orjson.dumps(asdict(canary), option=orjson.OPT_INDENT_2))
    return canary


def _require_share(percent: float) -> None:
    if not (math.isfinite(percent) and 0 < percent <= _ALL):
        raise CanaryRefused(f"{percent:g} % of users: give more than 0 and at most 100; abort ends a canary")
