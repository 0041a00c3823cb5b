"""A canary through real processes: some users get it and stay with it, and one that fails costs nobody anything."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import torch

from cascade.online.keys import IMPRESSIONS
from cascade.store import ModelStore, canary, release
from cascade.store.artifacts import RankerArtifacts
from services.gateway.tracks import Draw
from tests.e2e.canaries import answers, eventually, metrics, share_is, tracks, versions_of
from tests.e2e.candidates import louder, write_another

USERS = [f"canary-{number}" for number in range(60)]

pytestmark = pytest.mark.timeout(600)


def counted_here_alone(parts: RankerArtifacts) -> RankerArtifacts:
    """As good, and of a version that no other test tries: its counters are as high as the test makes them."""
    louder(parts.dlrm, 1.02)
    return parts


def fails_on_known_devices(parts: RankerArtifacts) -> RankerArtifacts:
    """It loads and warms up, and gives no number for a visitor whose device is known."""
    with torch.no_grad():
        parts.dlrm.embed.tables[-1].weight[1:] = float("nan")
    return parts


@pytest.fixture
def store(system: Any) -> Iterator[ModelStore]:
    """The run's store; what is left of a canary is ended after the test."""
    store = ModelStore(system.settings.model_store_url)
    yield store
    left = canary.read(store, "ranker")
    if left is not None and left.runs:
        canary.abort(store, "ranker", "the test is over")


def count(text: str, series: str) -> float:
    """The value of a series on a page of metrics; 0 where it is not there."""
    return next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{series} ")), 0.0)


def impressions_of(system: Any, request_ids: set[str]) -> list[dict[str, Any]]:
    """The impressions of these requests, as soon as all are in the stream."""
    with redis.Redis(port=system.settings.redis_port) as client:
        limit = time.monotonic() + 60
        while True:
            entries = client.xrevrange(IMPRESSIONS, count=1000)
            shown = [json.loads(fields[b"payload"]) for _, fields in entries]
            found = [one for one in shown if one["request_id"] in request_ids]
            if len(found) == len(request_ids):
                return found
            assert time.monotonic() < limit
            time.sleep(0.05)


def test_half_of_the_users_get_a_canary_and_stay_until_it_is_aborted(system: Any, store: ModelStore) -> None:
    stable = str(store.alias("ranker", "stable"))
    version = write_another(store, "ranker", counted_here_alone)
    started = canary.start(store, "ranker", version, 50)
    eventually(lambda: versions_of(system) == {"stable": stable, "canary": version})
    eventually(share_is(50.0, system.settings.gateway_port))

    drawn = Draw("ranker", started)
    expected = ["canary" if drawn.has(user_id) else "stable" for user_id in USERS]
    assert 15 < expected.count("canary") < 45
    first = answers(system.http, USERS)
    assert tracks(first) == expected
    assert tracks(answers(system.http, USERS)) == expected
    for answer, track in zip(first, expected, strict=True):
        assert answer["versions"]["ranker"]["version"] == (version if track == "canary" else stable)
        assert answer["versions"]["retrieval"]["track"] == "stable"

    for shown in impressions_of(system, {answer["request_id"] for answer in first}):
        track = expected[USERS.index(shown["user_id"])]
        assert shown["assigned"] == {"ranker": track}
        assert shown["tracks"]["ranker"] == track
        assert shown["versions"]["ranker"] == (version if track == "canary" else stable)
        assert "forced" not in shown

    forced = answers(system.http, USERS[:4], {"X-Cascade-Track": "ranker=canary"})
    assert set(tracks(forced)) == {"canary"}
    assert set(tracks(answers(system.http, USERS[:4], {"X-Cascade-Track": "ranker=stable"}))) == {"stable"}
    assert {one["forced"][0] for one in impressions_of(system, {one["request_id"] for one in forced})} == {"ranker"}
    refused = system.http.post("/v1/recommendations", json={"user_id": "u"}, headers={"X-Cascade-Track": "ranker=best"})
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["field"] == "x-cascade-track"

    asked = 2 * expected.count("canary") + 4
    labels = f'service="ranker",track="canary",version="{version}"'
    at_gateway, at_ranker = metrics(system.settings.gateway_port), metrics(system.settings.ranker_port)
    assert count(at_gateway, f'cascade_track_requests_total{{outcome="ok",{labels}}}') == asked
    assert count(at_gateway, f"cascade_track_seconds_count{{{labels}}}") == asked
    assert count(at_gateway, f"cascade_track_answers_total{{{labels}}}") == asked
    assert count(at_gateway, f"cascade_track_degraded_total{{{labels}}}") == 0
    assert count(at_ranker, f'cascade_bundle_requests_total{{outcome="ok",{labels}}}') == asked
    assert f'cascade_bundle_info{{service="ranker",track="canary",version="{version}"}} 1.0' in at_ranker

    canary.abort(store, "ranker", "the test has seen enough")
    assert eventually(share_is(0.0, system.settings.gateway_port)) < 10
    assert set(tracks(answers(system.http, USERS))) == {"stable"}
    eventually(lambda: versions_of(system) == {"stable": stable})
    assert 'track="canary"' not in "".join(
        line for line in metrics(system.settings.ranker_port).splitlines() if line.startswith("cascade_bundle_info{")
    )
    # Nobody has to know: asked for a canary that is gone, stable answers and says so.
    assert set(tracks(answers(system.http, USERS[:4], {"X-Cascade-Track": "ranker=canary"}))) == {"stable"}


def test_no_visitor_pays_for_a_canary_that_fails(system: Any, store: ModelStore) -> None:
    version = write_another(store, "ranker", fails_on_known_devices)
    canary.start(store, "ranker", version, 100)
    eventually(lambda: versions_of(system).get("canary") == version)
    eventually(share_is(100.0, system.settings.gateway_port))
    assert set(tracks(answers(system.http, USERS[:10]))) == {"canary"}  # no device: it answers
    fallen = answers(system.http, USERS[:10], device_type="mobile")
    assert set(tracks(fallen)) == {"stable"}
    assert all(len(answer["items"]) == 5 for answer in fallen)
    for shown in impressions_of(system, {answer["request_id"] for answer in fallen}):
        assert (shown["assigned"]["ranker"], shown["tracks"]["ranker"]) == ("canary", "stable")

    labels = f'service="ranker",track="canary",version="{version}"'
    text = metrics(system.settings.gateway_port)
    assert count(text, f'cascade_track_requests_total{{outcome="error",{labels}}}') == 10
    assert count(text, f'cascade_track_fallbacks_total{{reason="error",{labels}}}') == 10
    at_ranker = metrics(system.settings.ranker_port)
    assert count(at_ranker, f'cascade_bundle_requests_total{{outcome="error",{labels}}}') == 10


def test_a_promoted_canary_is_stable_for_all(system: Any, store: ModelStore) -> None:
    stable = str(store.alias("ranker", "stable"))
    version = write_another(store, "ranker")
    canary.start(store, "ranker", version, 100)
    eventually(lambda: versions_of(system).get("canary") == version)
    eventually(share_is(100.0, system.settings.gateway_port))
    assert set(tracks(answers(system.http, USERS[:5]))) == {"canary"}
    canary.promote(store, "ranker")
    try:
        eventually(lambda: versions_of(system) == {"stable": version})
        eventually(share_is(0.0, system.settings.gateway_port))
        found = answers(system.http, USERS[:5])
        assert {(one["versions"]["ranker"]["track"], one["versions"]["ranker"]["version"]) for one in found} == {
            ("stable", version)
        }
    finally:
        release.rollback(store, "ranker")
    eventually(lambda: versions_of(system) == {"stable": stable})
