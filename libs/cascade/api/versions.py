"""Model versions as the page shows and changes them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

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


class ServiceModels(Message):
    """The versions of one service, the newest first."""

    service: str
    aliases: dict[str, str]
    versions: list[ModelVersion]


class ModelsResponse(Message):
    """GET /v1/models. can_change: whether this gateway has an admin key, and with it the endpoints that change."""

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
