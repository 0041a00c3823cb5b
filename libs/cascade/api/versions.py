"""Model versions as the page shows and changes them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field

from cascade.api.common import MAX_ID_LENGTH, Message

VersionName = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]


class GateResult(Message):
    """One metric on one slice, against the version that served. passed: null where not judged, as `note` says."""

    slice: str
    metric: str
    rows: int
    stable: float | None
    candidate: float | None
    tolerance: float
    passed: bool | None
    note: str


class ModelVersion(Message):
    """One version. gates: empty where none were asked, as for a full training; passed is null then.

    fault: why its manifest cannot be read; everything else is empty then
    """

    version: str
    aliases: list[str]
    created: dt.datetime | None = None
    parent: str | None = None
    training_days: list[dt.date] = Field(default_factory=list)
    metrics: dict[str, float] = Field(default_factory=dict)
    lineage: dict[str, str] = Field(default_factory=dict)
    passed: bool | None = None
    gates: list[GateResult] = Field(default_factory=list)
    fault: str | None = None


class CanaryStatus(Message):
    """The last canary of a service, running or ended.

    percent: share of the users who get it, 0 to 100; 0 once it has ended
    step: how often the share was set, from 1
    started, changed: when it began, and when its share was set last or it ended
    reason: why it was aborted; verdict: what its judge said in the end; both empty while it runs
    judged: when its judge looked last; null where none has
    evidence: what its judge counted in this step, a sentence a signal; trouble: why the last look saw nothing
    """

    version: str
    percent: float
    step: int
    state: Literal["running", "promoted", "aborted"]
    started: dt.datetime
    changed: dt.datetime
    reason: str = ""
    verdict: str = ""
    judged: dt.datetime | None = None
    evidence: list[str] = Field(default_factory=list)
    trouble: str = ""


class ServiceModels(Message):
    """The versions of one service, the newest first, and its last canary; null where there never was one.

    canary_fault: why what the store says of the canary cannot be read
    """

    service: str
    aliases: dict[str, str]
    versions: list[ModelVersion]
    canary: CanaryStatus | None = None
    canary_fault: str | None = None


class ModelsResponse(Message):
    """GET /v1/models. can_change: whether there is a key with which versions can be changed."""

    services: list[ServiceModels]
    can_change: bool


class PromoteRequest(Message):
    """POST /v1/models/{service}/promote: a version, or an alias that names one."""

    version: VersionName


class ReleaseResponse(Message):
    """What the aliases say after a change. changed: whether `stable` named another version before."""

    service: str
    stable: str
    previous: str | None
    changed: bool
