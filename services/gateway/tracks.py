"""Which users are in a service's canary, and how a request asks for a track itself.

A user is in by a hash of service, canary and user id below the canary's share: the same on every gateway without any of
them telling another, whoever is in stays in when the share grows, and the next canary draws anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol, cast, get_args

from cascade.api.common import Track
from cascade.api.gateway import Stage
from cascade.api.headers import TRACK_HEADER
from cascade.errors import CascadeError
from cascade.store.canary import CANARIED, Canary

TRACKED = cast(tuple[Stage, ...], CANARIED)
"""Services that have a canary, by the names of their stages."""

_HEADER = TRACK_HEADER.encode()
_TRACKS: tuple[Track, ...] = get_args(Track)
_DIGEST = 8
_WHOLE = 2 ** (8 * _DIGEST)
_SHOWN = 100


class BadTrackHeader(CascadeError):
    """A request asks for tracks in words that mean none."""

    def __init__(self, value: str, why: str) -> None:
        self.value = value[:_SHOWN]
        super().__init__(f"{why}; give service=track, a comma between two, such as 'ranker=canary, retrieval=stable'")


def forced_tracks(headers: Iterable[tuple[bytes, bytes]]) -> dict[Stage, Track] | None:
    """The tracks that a request asks for in its header; None where it has none. Raises BadTrackHeader.

    headers: raw, as ASGI gives them
    """
    values = [value for name, value in headers if name == _HEADER]
    return parse_tracks(",".join(value.decode("latin-1") for value in values)) if values else None


def parse_tracks(text: str) -> dict[Stage, Track]:
    """`ranker=canary, retrieval=stable` → by service. Raises BadTrackHeader."""
    found: dict[Stage, Track] = {}
    for part in text.split(","):
        service, equals, track = (word.strip() for word in part.partition("="))
        if not equals or service not in TRACKED or track not in _TRACKS:
            raise BadTrackHeader(
                text, f"{part.strip()[:_SHOWN]!r} is none of {' or '.join(TRACKED)} = {' or '.join(_TRACKS)}"
            )
        if service in found:
            raise BadTrackHeader(text, f"{service} is named twice")
        found[service] = track
    return found


class Draw:
    """Who is in one canary.

    percent: of the users, 0 to 100. The share of any many ids is within chance of it: ±0.47 points for 100,000 at 50 %,
    in 997 of 1,000 cases.
    """

    def __init__(self, service: str, canary: Canary) -> None:
        self.version = canary.version
        self.percent = canary.percent
        # Its start too: a version that is tried again is tried on others.
        self._salted = blake2b(f"{service}\0{canary.version}\0{canary.started!r}\0".encode(), digest_size=_DIGEST)
        self._below: int = round(canary.percent / 100 * _WHOLE)

    def has(self, user_id: str) -> bool:
        """Whether the user is in."""
        hashed = self._salted.copy()
        hashed.update(user_id.encode(errors="surrogatepass"))
        return int.from_bytes(hashed.digest()) < self._below


@dataclass(frozen=True, slots=True)
class Assigned:
    """The tracks of one request, by service; a service that is not named has stable alone.

    forced: services whose track the request named itself
    """

    tracks: Mapping[Stage, Track]
    forced: frozenset[Stage] = frozenset()

    def of(self, service: Stage) -> Track:
        """The track to ask a service for."""
        return self.tracks.get(service, "stable")

    def as_dict(self) -> dict[str, Any]:
        """For an impression; nothing where there is nothing to tell."""
        told: dict[str, Any] = {"assigned": dict(self.tracks)} if self.tracks else {}
        return told | ({"forced": sorted(self.forced)} if self.forced else {})


ALL_STABLE = Assigned({})


class AnswerObserver(Protocol):
    """Is told of recommendations while a service has a canary."""

    def answer(self, service: str, track: str, version: str | None, degraded: bool) -> None:
        """One whose user was assigned this track. version: the canary's, where it is known; None for stable."""


class Tracks:
    """The canaries that run, as this gateway knows them, and whom they have."""

    def __init__(self, observer: AnswerObserver) -> None:
        self._observer = observer
        self._draws: dict[Stage, Draw] = {}

    @property
    def running(self) -> Mapping[Stage, Draw]:
        """By service, those with a share of the users."""
        return self._draws

    def set(self, service: Stage, canary: Canary | None) -> bool:
        """Take over what the store says of a service; → whether the share of users is another now."""
        before = self._draws.get(service)
        if canary is None or not canary.runs or canary.percent <= 0:
            self._draws.pop(service, None)
            return before is not None
        draw = self._draws[service] = Draw(service, canary)
        return before is None or (before.version, before.percent) != (draw.version, draw.percent)

    def assign(self, user_id: str, forced: Mapping[Stage, Track] | None = None) -> Assigned:
        """The tracks of one request. forced: those that it names itself."""
        if not self._draws and not forced:
            return ALL_STABLE
        tracks: dict[Stage, Track] = {
            service: "canary" if draw.has(user_id) else "stable" for service, draw in self._draws.items()
        }
        if not forced:
            return Assigned(tracks)
        return Assigned({**tracks, **forced}, frozenset(forced))

    def answered(self, assigned: Assigned, *, degraded: bool) -> None:
        """Count a recommendation for the tracks that it was assigned."""
        for service, track in assigned.tracks.items():
            draw = self._draws.get(service) if track == "canary" else None
            self._observer.answer(service, track, None if draw is None else draw.version, degraded)
