"""The judge against a made-up shop: what it promotes, what it rolls back and why, and how it outlives its death."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from cascade.canary import record as records
from cascade.canary.clicks import Clicked
from cascade.canary.errors import JudgeRuns, NoEvidence
from cascade.canary.evalues import Counts
from cascade.canary.judge import Ending, Judge
from cascade.canary.outcomes import Outcomes
from cascade.canary.policy import Policy
from cascade.online.errors import OnlineStoreDown
from cascade.store import ModelStore
from cascade.store import canary as canaries
from cascade.store.errors import NoCanary

POLICY = Policy(pause_s=300, look_s=10, limit_s=3600, min_calls=200, min_users=200)
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
SERVICE = "ranker"


@dataclass(frozen=True)
class Behaviour:
    """Of a version. seconds: mean of its calls; clicks: click-through."""

    failing: float = 0.0005
    degraded: float = 0.0005
    seconds: float = 0.006
    clicks: float = 0.1


@dataclass
class World:
    """Visitors and their clock: `rate` lists a second, shared by the store's percentage."""

    store: ModelStore
    canary: Behaviour = Behaviour()
    stable: Behaviour = Behaviour()
    rate: float = 60.0
    now: float = 1_000_000.0
    down: bool = False
    stopped: Callable[[], None] | None = None
    told: list[float] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))
    _looked: float = 0.0
    _listed: float = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.stopped is not None:
            self.stopped()

    def tell(self) -> None:
        canary = canaries.read(self.store, SERVICE)
        assert canary is not None
        self.told.append(canary.percent)

    def look(self) -> tuple[Outcomes, Outcomes]:
        if self.down:
            raise NoEvidence("no gateway tells its metrics")
        stable, canary = self._shown(self._looked)
        self._looked = self.now
        return self._outcomes(self.stable, stable), self._outcomes(self.canary, canary)

    def since(self, cursor: str | None, version: str, step: int) -> Clicked:
        if self.down:
            raise OnlineStoreDown("reading impressions: refused")
        stable, canary = self._shown(self._listed if cursor else self.now)
        self._listed = self.now
        without = [int(self.rng.binomial(n, 1 - of.clicks)) for n, of in ((stable, self.stable), (canary, self.canary))]
        return Clicked("somewhere", Counts(stable, without[0], canary, without[1]))

    def judge(self, policy: Policy = POLICY) -> Judge:
        return Judge(self.store, SERVICE, policy, self, self, tell=self.tell, clock=self.clock, sleep=self.sleep)

    def _shown(self, since: float) -> tuple[int, int]:
        """Lists of each track since then."""
        state = canaries.read(self.store, SERVICE)
        share = state.percent / 100 if state is not None else 0.0
        for_s = self.now - since if since else 0.0
        stable, canary = self.rng.poisson([self.rate * for_s * (1 - share), self.rate * for_s * share])
        return int(stable), int(canary)

    def _outcomes(self, of: Behaviour, count: int) -> Outcomes:
        seconds = self.rng.exponential(of.seconds / 2, count) + of.seconds / 2
        buckets = {f"{bound:g}": float((seconds <= bound).sum()) for bound in BUCKETS_S} | {"+Inf": float(count)}
        failed, degraded = (float(self.rng.binomial(count, share)) for share in (of.failing, of.degraded))
        return Outcomes(count, failed, count, degraded, 0.0, buckets)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    models = ModelStore(tmp_path)
    old, _ = (written(models, text) for text in "ab")
    models.set_alias(SERVICE, "stable", old)
    return models


@pytest.fixture
def world(store: ModelStore) -> World:
    return World(store)


def written(store: ModelStore, content: str) -> str:
    def fill(folder: Path) -> None:
        (folder / "weights").write_text(content)

    return store.write(SERVICE, fill, training_days=[date(2026, 1, 5)]).version


def started(world: World, percent: float = 1.0) -> str:
    (version,) = set(world.store.versions(SERVICE)) - {world.store.alias(SERVICE, "stable")}
    canaries.start(world.store, SERVICE, version, percent, world.clock)
    return version


def run(world: World, policy: Policy = POLICY) -> Ending:
    return world.judge(policy).run()


def test_a_good_version_goes_through_every_step_and_is_promoted(world: World) -> None:
    version = started(world)
    begin = world.now
    ending = run(world)
    assert ending.state == "promoted"
    assert world.store.aliases(SERVICE)["stable"] == version
    assert "canary" not in world.store.aliases(SERVICE)
    assert world.told == [5.0, 25.0, 100.0, 0.0]
    assert world.now - begin >= 4 * POLICY.pause_s
    assert [look.percent for look in ending.record.looks] == sorted(look.percent for look in ending.record.looks)
    assert "no signal found it worse at 1 %, 5 %, 25 %, 100 %" in ending.reason


@pytest.mark.parametrize(
    ("behaviour", "signal"),
    [
        (Behaviour(failing=0.2), "errors"),
        (Behaviour(degraded=0.2), "degraded"),
        (Behaviour(seconds=0.03), "p99"),
        (Behaviour(clicks=0.04), "click-through"),
    ],
)
def test_each_harm_is_found_by_its_own_signal(world: World, behaviour: Behaviour, signal: str) -> None:
    world.canary = behaviour
    started(world)
    ending = run(world)
    assert ending.state == "aborted"
    assert ending.reason.startswith(signal)
    assert "false alarm has a chance of at most 1.00%" in ending.reason
    assert ending.canary.percent == 0
    assert ending.canary.reason == ending.reason
    assert world.told[-1] == 0.0
    assert "canary" not in world.store.aliases(SERVICE)


def test_what_goes_wrong_with_all_users_only_is_found_against_the_step_before(world: World) -> None:
    started(world)

    def overload() -> None:
        state = canaries.read(world.store, SERVICE)
        world.canary = Behaviour(failing=0.1) if state is not None and state.percent == 100 else Behaviour()

    world.stopped = overload
    ending = run(world)
    assert ending.state == "aborted"
    assert ending.reason.startswith("errors")
    assert "was the bound" in ending.reason


@pytest.mark.parametrize(("at_limit", "state", "percent"), [("abort", "aborted", 0.0), ("hold", "held", 1.0)])
def test_too_little_evidence_is_said_and_acted_on(world: World, at_limit: str, state: str, percent: float) -> None:
    world.rate = 1.0
    started(world)
    ending = run(world, replace(POLICY, at_limit=at_limit))
    assert ending.state == state
    assert "too little evidence after" in ending.reason
    assert "of 200 calls to the canary" in ending.reason
    now = canaries.read(world.store, SERVICE)
    assert now is not None
    assert now.percent == percent


def test_sources_that_are_down_hold_nothing_up_and_promote_nothing(world: World) -> None:
    started(world)
    world.down = True
    ending = run(world)
    assert ending.state == "aborted"
    assert "no gateway tells its metrics" in ending.reason


def test_users_are_asked_for_before_the_last_step_alone(world: World) -> None:
    started(world)
    ending = run(world, replace(POLICY, min_users=10**6))
    assert (ending.state, ending.record.percent) == ("aborted", 25.0)
    assert "of 1,000,000 users shown a list of the canary" in ending.reason


def test_a_judge_that_was_killed_is_followed_by_one_that_keeps_the_evidence(world: World) -> None:
    started(world)
    looks = iter(range(5))

    def die() -> None:
        if next(looks, None) is None:
            raise KeyboardInterrupt

    world.stopped = die
    with pytest.raises(KeyboardInterrupt):
        run(world)
    world.stopped = None
    killed = records.read(world.store, SERVICE)
    assert killed is not None
    world.now += 600
    ending = run(world)
    assert ending.state == "promoted"
    assert ending.record.looks[: len(killed.looks)] == killed.looks


def test_a_second_judge_leaves_a_canary_that_is_watched(world: World) -> None:
    started(world)
    first, second = world.judge(), world.judge()
    first.look()

    def meanwhile() -> None:
        first.look()

    world.stopped = meanwhile
    with pytest.raises(JudgeRuns, match="has a judge already"):
        second.run()
    world.stopped = None
    second.look()
    with pytest.raises(JudgeRuns, match="another judge has taken over"):
        first.look()


def test_a_person_may_end_it_meanwhile(world: World) -> None:
    started(world)
    looks = iter(range(3))

    def intervene() -> None:
        if next(looks, None) is None:
            canaries.abort(world.store, SERVICE, "a person did not like it", world.clock)

    world.stopped = intervene
    ending = run(world)
    assert (ending.state, ending.reason) == ("aborted", "a person did not like it")


def test_a_person_may_end_it_while_the_judge_makes_up_its_mind(world: World) -> None:
    world.canary = Behaviour(failing=0.5)
    started(world, 25.0)
    judge = world.judge()

    def intervene(canary: object, record: object) -> None:
        canaries.promote(world.store, SERVICE, world.clock)

    assert judge.look() is None
    world.now += 10
    judge._report = intervene
    assert judge.look() is None
    ending = judge.look()
    assert ending is not None
    assert (ending.state, ending.reason) == ("promoted", "promoted by hand")


def test_without_a_canary_there_is_nothing_to_judge(world: World) -> None:
    with pytest.raises(NoCanary, match="no canary of 'ranker' runs"):
        run(world)


def test_evidence_of_a_canary_before_is_not_taken_for_this_ones(world: World) -> None:
    world.canary = Behaviour(failing=0.5)
    started(world)
    assert run(world).state == "aborted"
    world.canary = Behaviour()
    world.now += 10
    started(world)
    ending = run(world)
    assert ending.state == "promoted"
    assert ending.record.looks[0].at > world.now - 4000


def test_a_record_that_cannot_be_read_is_begun_anew(world: World) -> None:
    started(world)
    world.store.set_note(SERVICE, "canary-evidence.json", b'{"version": 1}')
    assert records.read(world.store, SERVICE) is None
    assert world.judge().look() is None
    assert records.read(world.store, SERVICE) is not None


def test_looks_are_thinned_so_that_the_record_stays_small(world: World) -> None:
    started(world)
    judge = world.judge()
    for _ in range(450):
        assert judge.look() is None
        world.now += 0.1
    record = records.read(world.store, SERVICE)
    assert record is not None
    assert 100 <= len(record.looks) <= 200
    assert record.looks[-1].at == pytest.approx(world.now - 0.1)


def test_false_alarms_are_shared_out_over_all_tests() -> None:
    assert POLICY.a_test == pytest.approx(0.01 / 14)
    assert replace(POLICY, steps=(50.0, 100.0)).a_test == pytest.approx(0.01 / 6)
