"""Model versions: what there is, and the two steps that change what serves. Knows no HTTP."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from cascade.api.versions import (
    CanaryStatus,
    GateResult,
    ModelsResponse,
    ModelVersion,
    ReleaseResponse,
    ServiceModels,
)
from cascade.canary import record as records
from cascade.errors import CascadeError
from cascade.store import canary as canaries
from cascade.store.bundles import Manifest
from cascade.store.errors import BundleNotFound, BundleRefused, CanaryUnreadable
from cascade.store.model_store import ModelStore
from cascade.store.release import Release, promote, rollback

SERVICES = ("retrieval", "ranker", "gateway")


class NoSuchService(CascadeError):
    """No service of this name has bundles."""

    def __init__(self, service: str) -> None:
        super().__init__(f"no service {service!r} has model versions; there are {', '.join(SERVICES)}")


class Models:
    """The versions in a store. It may be a remote one, so every method works in a thread.

    refreshes: services of this process that look at their alias at once; others find it at their next look
    """

    def __init__(self, store: ModelStore, refreshes: Mapping[str, Callable[[], Awaitable[object]]]) -> None:
        self._store = store
        self._refreshes = refreshes
        self._read: dict[tuple[str, str], Manifest] = {}  # immutable, so read once

    async def all(self, *, can_change: bool) -> ModelsResponse:
        """Every version of every service."""
        services = await asyncio.to_thread(lambda: [self._of(service) for service in SERVICES])
        return ModelsResponse(services=services, can_change=can_change)

    async def promote(self, service: str, version: str) -> ReleaseResponse:
        """Make a version serve. Raises NoSuchService, BundleNotFound, BundleRefused."""
        return await self._change(service, lambda: promote(self._store, service, version))

    async def rollback(self, service: str) -> ReleaseResponse:
        """Make the version before serve again. Raises NoSuchService, NothingBefore, BundleRefused."""
        return await self._change(service, lambda: rollback(self._store, service))

    async def _change(self, service: str, change: Callable[[], Release]) -> ReleaseResponse:
        if service not in SERVICES:
            raise NoSuchService(service)
        done = await asyncio.to_thread(change)
        refresh = self._refreshes.get(service)
        if refresh is not None:
            await refresh()
        return ReleaseResponse(service=done.service, stable=done.stable, previous=done.previous, changed=done.changed)

    def _of(self, service: str) -> ServiceModels:
        aliases = self._store.aliases(service)
        found = [self._version(service, version, aliases) for version in self._store.versions(service)]
        newest_first = sorted(found, key=lambda one: (one.created is not None, one.created, one.version), reverse=True)
        canary, fault = self._canary(service)
        return ServiceModels(service=service, aliases=aliases, versions=newest_first, canary=canary, canary_fault=fault)

    def _canary(self, service: str) -> tuple[CanaryStatus | None, str | None]:
        """The service's last canary with what its judge noted, or why that cannot be read."""
        if service not in canaries.CANARIED:
            return None, None
        try:
            canary = canaries.read(self._store, service)
        except CanaryUnreadable as error:
            return None, str(error)
        if canary is None:
            return None, None
        record = records.read(self._store, service)
        return _status(canary, record if record is not None and record.is_of(canary) else None), None

    def _version(self, service: str, version: str, aliases: Mapping[str, str]) -> ModelVersion:
        names = [alias for alias, named in aliases.items() if named == version]
        try:
            manifest = self._read.get((service, version)) or self._store.manifest(service, version)
        except (BundleRefused, BundleNotFound) as error:
            return ModelVersion(version=version, aliases=names, fault=type(error).__name__)
        self._read[service, version] = manifest
        gates = manifest.gates or {}
        return ModelVersion(
            version=version,
            aliases=names,
            created=manifest.created,
            parent=manifest.parent,
            training_days=sorted(manifest.training_days),
            metrics=manifest.metrics,
            lineage=manifest.lineage,
            passed=gates.get("passed"),
            gates=[_gate(gate) for gate in gates.get("gates", ())],
        )


def _status(canary: canaries.Canary, record: records.Record | None) -> CanaryStatus:
    """record: the judge's, None where nobody has judged this canary yet."""
    known = CanaryStatus(
        version=canary.version,
        percent=canary.percent,
        step=canary.step + 1,
        state=canary.state,
        started=_moment(canary.started),
        changed=_moment(canary.changed),
        reason=canary.reason,
    )
    if record is None:
        return known
    return known.model_copy(
        update={
            "verdict": record.verdict,
            "judged": _moment(record.seen),
            "evidence": [record.sentence(signal) for signal in record.tests],
            "trouble": record.trouble,
        }
    )


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _gate(gate: Mapping[str, Any]) -> GateResult:
    """Only what the page shows: a later release may keep more."""
    return GateResult(**{name: gate.get(name) for name in GateResult.model_fields})
