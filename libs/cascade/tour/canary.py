"""The chapter about a canary: a candidate for a quarter of the users, beside what is stable, and back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cascade.api.gateway import RecommendationRequest
from cascade.canary.wiring import tell_both
from cascade.settings import Settings
from cascade.store import ModelStore
from cascade.store import canary as canaries
from cascade.store.artifacts import RankerArtifacts
from cascade.store.errors import BundleRefused
from cascade.store.model_store import STABLE
from cascade.tour.guide import Guide, side_by_side
from cascade.tour.shop import Shop

SERVICE = "ranker"
PERCENT = 25.0
VISITORS = 40
REASON = "the tour is over"
_NOISE = 0.3
_FOLLOWS_S = 15.0
_LOOK_S = 0.2


@dataclass(frozen=True)
class Candidate:
    """made: whether the tour wrote it, and removes it again."""

    version: str
    made: bool


@dataclass(frozen=True)
class CanaryChapter:
    """Start, share, both tracks side by side, abort. Whatever happens in between, the canary is aborted."""

    shop: Shop
    guide: Guide
    settings: Settings
    store: ModelStore
    visitor: str

    def run(self) -> None:
        """The chapter. One that runs already is somebody else's: it is left alone."""
        guide = self.guide
        guide.chapter(
            "A canary", "A new version of the ranker serves some of the users beside the stable one, and is taken back."
        )
        running = canaries.read(self.store, SERVICE)
        if running is not None and running.runs:
            guide.say(
                f"{running.version} is a canary already, for {running.percent:g} % of the users: it is left alone. "
                f"`cascade canary status {SERVICE}` shows it."
            )
            return
        with self._candidate() as candidate, self._started(candidate):
            self._share(candidate)
            guide.pause()
            self._tracks(candidate)
            guide.pause()
        self._over()

    @contextmanager
    def _candidate(self) -> Iterator[Candidate]:
        """The newest version that is not stable; where there is none, stable's with noise on its weights."""
        stable = self.store.bundle(SERVICE, STABLE)
        others = []
        for version in self.store.versions(SERVICE):
            try:
                others.append((self.store.manifest(SERVICE, version).created, version))
            except BundleRefused:
                continue
        others = [one for one in others if one[1] != stable.version]
        if others:
            candidate = Candidate(max(others)[1], made=False)
            self.guide.say(f"The candidate: {candidate.version}, the newest version that is not stable.")
        else:
            from cascade.training.disturb import disturb

            parts = RankerArtifacts.load(stable.path)
            disturb(parts.dlrm, _NOISE, seed=self.settings.seed)
            manifest = stable.manifest
            written = self.store.write(
                SERVICE,
                parts.save,
                training_days=manifest.training_days,
                parent=stable.version,
                lineage=manifest.lineage,
            )
            candidate = Candidate(written.version, made=True)
            self.guide.say(
                f"There is one version only, so the tour makes {candidate.version}: the same with {_NOISE:.0%} noise "
                "on every weight, a worse one on purpose. It is removed at the end."
            )
        try:
            yield candidate
        finally:
            if candidate.made:
                self.store.remove(SERVICE, candidate.version)

    @contextmanager
    def _started(self, candidate: Candidate) -> Iterator[None]:
        canaries.start(self.store, SERVICE, candidate.version, PERCENT)
        try:
            tell_both(self.settings, SERVICE)
            yield
        finally:
            canaries.abort(self.store, SERVICE, REASON)
            tell_both(self.settings, SERVICE)

    def _share(self, candidate: Candidate) -> None:
        guide = self.guide
        guide.say(f"Started for {PERCENT:g} % of the users.")
        with guide.waiting("Waiting for the replicas …"):
            limit = time.monotonic() + _FOLLOWS_S
            while self._track(self.visitor, f"{SERVICE}=canary") != "canary" and time.monotonic() < limit:
                time.sleep(_LOOK_S)
        tracks = [self._track(f"{self.visitor}-{number}") for number in range(VISITORS)]
        guide.say(f"Of {VISITORS} visitors {tracks.count('canary')} get the canary, by a hash of their ids.")
        guide.look("the Models page: the canary's share, since when, and what its judge says (nobody judges it here).")
        guide.by_hand(
            f"CASCADE_CANARY_STEPS='[{PERCENT:g}, 100]' cascade canary start {SERVICE} {candidate.version} --no-judge",
            f"cascade canary status {SERVICE}",
            f"cascade canary judge {SERVICE}",
            f"{self.shop.url}/storefront/models",
        )

    def _tracks(self, candidate: Candidate) -> None:
        guide = self.guide
        request = RecommendationRequest(user_id=self.visitor, k=10)
        wanted = {track: f"{SERVICE}={track}" for track in ("stable", "canary")}
        answers = {track: self.shop.recommend(request, named) for track, named in wanted.items()}
        guide.say("A request may name the track itself, by a header: both lists for the same visitor.")
        guide.table(side_by_side(*((track, answer.items) for track, answer in answers.items())))
        served = answers["canary"].versions.get(SERVICE)
        if served is None or served.track != "canary":
            guide.say(
                "The canary's list was made by stable: the gateway takes no track from a header "
                "(CASCADE_GATEWAY_TRACK_HEADER), or the canary gave no answer."
            )
        guide.look(f"what {candidate.version} does differently; answers, metrics and impressions name the track.")
        guide.by_hand(*(self.shop.curl_list(request, named) for named in wanted.values()))

    def _over(self) -> None:
        guide = self.guide
        back = self._track(self.visitor, None)
        guide.say(f"Aborted: {REASON}. Everybody is served by {back or 'stable'} again.")
        guide.by_hand(f'cascade canary abort {SERVICE} --reason "{REASON}"')

    def _track(self, user_id: str, track: str | None = None) -> str | None:
        """The ranker's track in a visitor's answer; None where it did not answer."""
        versions = self.shop.recommend(RecommendationRequest(user_id=user_id, k=1), track).versions
        return versions[SERVICE].track if SERVICE in versions else None
