"""Who is in a canary: a share that is kept, users that stay, and requests that choose for themselves."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.store.canary import Canary
from services.gateway.tracks import (
    ALL_STABLE,
    BadTrackHeader,
    Draw,
    Tracks,
    forced_tracks,
    parse_tracks,
)

CANARY = Canary("20260118-3f2a9c01b7de", 5.0, 0, "running", "", 1_768_700_000.25, 1_768_700_000.25)
IDS = [f"u{number}" for number in range(100_000)]

KNOWN = {
    "ranker": [3, 13, 36, 41, 51, 85, 87, 141, 142, 148, 191, 195],
    "retrieval": [31, 40, 54, 89, 100, 103, 119, 183],
}
"""Of the first 200, at 5 %."""

user_ids = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=128)
percents = st.floats(0, 100, exclude_min=True)


def draw(percent: float, service: str = "ranker", **changes: object) -> Draw:
    return Draw(service, replace(CANARY, percent=percent, **changes))  # type: ignore[arg-type]


def share(drawn: Draw) -> float:
    return 100 * sum(map(drawn.has, IDS)) / len(IDS)


@pytest.mark.parametrize("percent", [0.1, 1, 5, 25, 50, 75, 99])
@pytest.mark.parametrize("service", ["ranker", "retrieval"])
def test_the_share_of_users_is_within_half_a_point(percent: float, service: str) -> None:
    assert share(draw(percent, service)) == pytest.approx(percent, abs=0.5)


@settings(max_examples=5, deadline=None, derandomize=True)  # drawn anew, 1 in 600 would be further off, by chance
@given(percents, st.integers(0, 10**9), st.sampled_from(["ranker", "retrieval"]))
def test_so_it_is_for_every_canary(percent: float, started: int, service: str) -> None:
    assert share(draw(percent, service, started=float(started))) == pytest.approx(percent, abs=0.5)


def test_a_hundred_percent_is_everybody() -> None:
    assert share(draw(100)) == 100


@given(user_ids, percents, percents)
def test_who_is_in_stays_in_when_the_share_grows(user_id: str, one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert draw(more).has(user_id) or not draw(less).has(user_id)


@given(user_ids, percents)
def test_every_gateway_draws_the_same(user_id: str, percent: float) -> None:
    later = draw(percent, step=3, changed=CANARY.changed + 3600)
    assert draw(percent).has(user_id) == draw(percent).has(user_id) == later.has(user_id)


@given(user_ids, percents)
def test_the_draw_is_the_hash_below_the_share(user_id: str, percent: float) -> None:
    salted = f"ranker\0{CANARY.version}\0{CANARY.started!r}\0{user_id}"
    number = int.from_bytes(blake2b(salted.encode(), digest_size=8).digest(), "big")
    assert draw(percent).has(user_id) == (number < round(percent / 100 * 2**64))


def test_known_answers() -> None:
    """What a gateway of another release must draw, too: a user must not flip while gateways are replaced."""
    assert [number for number in range(200) if draw(5).has(f"u{number}")] == KNOWN["ranker"]
    assert [number for number in range(200) if draw(5, "retrieval").has(f"u{number}")] == KNOWN["retrieval"]


def test_each_canary_draws_anew() -> None:
    base = {user_id for user_id in IDS[:20_000] if draw(50).has(user_id)}
    others = (
        draw(50, "retrieval"),
        draw(50, version="20260119-000000000000"),
        draw(50, started=CANARY.started + 1),
    )
    for other in others:
        both = sum(map(other.has, base))
        assert both / len(base) == pytest.approx(0.5, abs=0.02)


class Counted:
    """An AnswerObserver that remembers."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, str, str | None, bool]] = []

    def answer(self, service: str, track: str, version: str | None, degraded: bool) -> None:
        self.answers.append((service, track, version, degraded))


def test_without_a_canary_everything_is_stable() -> None:
    tracks = Tracks(Counted())
    assert tracks.assign("u1") is ALL_STABLE
    assert ALL_STABLE.of("ranker") == "stable"
    assert ALL_STABLE.as_dict() == {}


def test_users_are_assigned_while_a_canary_runs() -> None:
    counted = Counted()
    tracks = Tracks(counted)
    assert tracks.set("ranker", replace(CANARY, percent=50.0))
    assert not tracks.set("ranker", replace(CANARY, percent=50.0))
    drawn = draw(50)
    for user_id in IDS[:100]:
        assigned = tracks.assign(user_id)
        assert assigned.of("ranker") == ("canary" if drawn.has(user_id) else "stable")
        assert assigned.of("retrieval") == "stable"
        assert assigned.as_dict() == {"assigned": {"ranker": assigned.of("ranker")}}
        tracks.answered(assigned, degraded=user_id == "u7")
    assert sum(degraded for *_, degraded in counted.answers) == 1
    assert {(track, version) for _, track, version, _ in counted.answers} == {
        ("canary", CANARY.version),
        ("stable", None),
    }


@pytest.mark.parametrize("ended", [None, replace(CANARY, percent=0.0), replace(CANARY, state="aborted")])
def test_an_ended_canary_has_nobody(ended: Canary | None) -> None:
    tracks = Tracks(Counted())
    tracks.set("ranker", replace(CANARY, percent=100.0))
    assert tracks.set("ranker", ended)
    assert tracks.assign("u1") is ALL_STABLE
    assert not tracks.set("ranker", ended)


def test_a_request_has_its_way() -> None:
    tracks = Tracks(Counted())
    forced = tracks.assign("u1", {"ranker": "canary"})
    assert forced.of("ranker") == "canary"
    assert forced.as_dict() == {"assigned": {"ranker": "canary"}, "forced": ["ranker"]}
    tracks.set("ranker", replace(CANARY, percent=100.0))
    tracks.set("retrieval", replace(CANARY, percent=100.0))
    one = tracks.assign("u1", {"ranker": "stable"})
    assert (one.of("ranker"), one.of("retrieval")) == ("stable", "canary")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ranker=canary", {"ranker": "canary"}),
        ("ranker=canary, retrieval=stable", {"ranker": "canary", "retrieval": "stable"}),
        (" retrieval = canary ", {"retrieval": "canary"}),
    ],
)
def test_the_header_names_tracks(text: str, found: dict[str, str]) -> None:
    assert parse_tracks(text) == found
    assert forced_tracks([(b"accept", b"*/*"), (b"x-cascade-track", text.encode())]) == found


def test_a_header_given_twice_is_one_list() -> None:
    headers = [(b"x-cascade-track", b"ranker=canary"), (b"x-cascade-track", b"retrieval=canary")]
    assert forced_tracks(headers) == {"ranker": "canary", "retrieval": "canary"}


def test_without_the_header_nothing_is_forced() -> None:
    assert forced_tracks([(b"accept", b"ranker=canary")]) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is none of retrieval or ranker = stable or canary"),
        ("canary", "'canary' is none of"),
        ("filter=canary", "'filter=canary' is none of"),
        ("ranker=newest", "'ranker=newest' is none of"),
        ("ranker=canary,", "'' is none of"),
        ("ranker=canary, ranker=stable", "ranker is named twice"),
        ("RANKER=canary", "'RANKER=canary' is none of"),
    ],
)
def test_a_malformed_header_says_what_is_expected(text: str, why: str) -> None:
    with pytest.raises(BadTrackHeader, match="such as 'ranker=canary, retrieval=stable'") as raised:
        parse_tracks(text)
    assert why in str(raised.value)
    assert raised.value.value == text


@given(st.text(max_size=400))
def test_any_header_is_parsed_or_refused(text: str) -> None:
    try:
        found = parse_tracks(text)
    except BadTrackHeader:
        found = {}
    assert set(found) <= {"ranker", "retrieval"}
