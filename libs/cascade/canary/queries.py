"""What is asked of metrics about two sides, and the only place that spells it.

A side is a set of labels: for a model canary a *track* as the gateways count it, for new code the *pods* of a rollout.
The questions are the same, and so are their answers' shapes: the judge adds up the samples that a question selects, and
the AnalysisTemplates in k8s/ hold its PromQL (a test compares them).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Matchers = tuple[tuple[str, str, str], ...]
"""(label, operator, value) each."""


@dataclass(frozen=True)
class Question:
    """A sum of counters: of a metric, those whose labels match."""

    metric: str
    matchers: Matchers = ()

    def selector(self, side: Matchers) -> str:
        """The series, in PromQL."""
        matchers = ",".join(f'{label}{how}"{value}"' for label, how, value in (*side, *self.matchers))
        return f"{self.metric}{{{matchers}}}"

    def rate(self, side: Matchers, window: str) -> str:
        """Their sum a second, in PromQL."""
        return f"sum(rate({self.selector(side)}[{window}]))"

    def selects(self, name: str, labels: Mapping[str, str], side: Matchers) -> bool:
        """Whether a sample is one of them."""
        return name == self.metric and all(
            _matches(labels.get(label, ""), how, value) for label, how, value in (*side, *self.matchers)
        )


@dataclass(frozen=True)
class Questions:
    """What is asked of either kind of canary. seconds: the histogram's name, without its suffix."""

    calls: Question
    failed: Question
    lists: Question
    degraded: Question
    seconds: str
    seconds_matchers: Matchers = ()

    @property
    def buckets(self) -> Question:
        """The histogram of seconds."""
        return Question(f"{self.seconds}_bucket", self.seconds_matchers)


_API: Matchers = (("route", "=~", "/v1/.*"),)
_LISTS: Matchers = (("route", "=", "/v1/recommendations"),)

MODEL = Questions(
    calls=Question("cascade_track_requests_total"),
    failed=Question("cascade_track_requests_total", (("outcome", "=~", "error|late"),)),
    lists=Question("cascade_track_answers_total"),
    degraded=Question("cascade_track_degraded_total"),
    seconds="cascade_track_seconds",
)
"""Of a track, as the gateways count it."""

NOT_LOADED = Question("cascade_track_fallbacks_total", (("reason", "=", "not_loaded"),))
"""Calls for a canary that the replica did not hold."""

IMAGE = Questions(
    calls=Question("cascade_requests_total", _API),
    failed=Question("cascade_requests_total", (*_API, ("status", "=~", "5.."))),
    lists=Question("cascade_requests_total", _LISTS),
    degraded=Question("cascade_degraded_total"),
    seconds="cascade_request_seconds",
    seconds_matchers=_API,
)
"""Of a rollout's pods, as they count themselves."""


def track(service: str, name: str) -> Matchers:
    """The users of a service's canary, or the others."""
    return (("service", "=", service), ("track", "=", name))


def pods(template_hash: str, service: str | None = None) -> Matchers:
    """The pods of one version of the code."""
    of_service: Matchers = () if service is None else (("service", "=", service),)
    return (*of_service, ("rollouts_pod_template_hash", "=", template_hash))


def share(part: Question, whole: Question, side: Matchers, window: str) -> str:
    """PromQL: which share of the whole the part is; 0 without traffic."""
    return f"({part.rate(side, window)} / clamp_min({whole.rate(side, window)}, 0.001) or vector(0))"


def error_share_above(asked: Questions, canary: Matchers, stable: Matchers, window: str) -> str:
    """PromQL: by how much the canary's share of failed calls is above stable's."""
    return _difference(asked.failed, asked.calls, canary, stable, window)


def degraded_share_above(asked: Questions, canary: Matchers, stable: Matchers, window: str) -> str:
    """PromQL: likewise of lists made without a stage."""
    return _difference(asked.degraded, asked.lists, canary, stable, window)


def p99_above(asked: Questions, canary: Matchers, stable: Matchers, window: str, factor: float) -> str:
    """PromQL: seconds by which the canary's p99 is above `factor` times stable's."""
    quantiles = [
        f"histogram_quantile(0.99, sum by (le) (rate({asked.buckets.selector(side)}[{window}])))"
        for side in (canary, stable)
    ]
    return f"{quantiles[0]} - {factor:g} * {quantiles[1]} or vector(0)"


def tracks(service: str) -> str:
    """PromQL: everything that the gateways count of a service's tracks."""
    return f'{{__name__=~"cascade_track_.+",service="{service}"}}'


STARTED = "process_start_time_seconds and on (instance) cascade_track_answers_total"
"""PromQL: since when each gateway runs."""


def _difference(part: Question, whole: Question, canary: Matchers, stable: Matchers, window: str) -> str:
    return f"{share(part, whole, canary, window)} - {share(part, whole, stable, window)}"


def _matches(found: str, how: str, value: str) -> bool:
    if how == "=":
        return found == value
    if how == "=~":
        return re.fullmatch(value, found) is not None
    raise ValueError(f"the operator {how!r} is not known here; use = or =~")
