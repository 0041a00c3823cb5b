"""Which version serves: promote."""

from __future__ import annotations

from dataclasses import dataclass

from cascade.store.model_store import PREVIOUS, STABLE, ModelStore


@dataclass(frozen=True)
class Release:
    """What the aliases of a service say after a change. changed: whether `stable` named another version before."""

    service: str
    stable: str
    previous: str | None
    changed: bool


def promote(store: ModelStore, service: str, version: str) -> Release:
    """Make a version (or what an alias names) the one that serves; what served before becomes `previous`.

    Raises BundleNotFound, BundleRefused.
    """
    version = store.bundle(service, version).version
    before = store.alias(service, STABLE)
    if before == version:
        return Release(service, version, store.alias(service, PREVIOUS), changed=False)
    if before is not None:
        store.set_alias(service, PREVIOUS, before)
    store.set_alias(service, STABLE, version)
    return Release(service, version, before, changed=True)
