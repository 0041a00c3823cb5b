"""Which version serves: promote, roll back, retain.

Two alias files say it, `stable` and `previous`, and each is replaced atomically; the two together are not. The order
of writes is chosen so that a crash between them leaves a store that serves:

| step | writes | after a crash in between |
| --- | --- | --- |
| promote | previous := the old stable, then stable := the new version | the old version serves; promote again |
| roll back | stable := previous, then previous := the version that was stable | the rollback is done |

A version is verified before an alias names it, so that a service which starts afresh never finds a bundle that it must
refuse. On a local store one change at a time is made; on an object store the last writer wins.
"""

from __future__ import annotations

from dataclasses import dataclass

from cascade.store.errors import BundleRefused, NothingBefore
from cascade.store.lineage import require_one_lineage
from cascade.store.model_store import PREVIOUS, STABLE, ModelStore


@dataclass(frozen=True)
class Release:
    """What the aliases of a service say after a change. changed: whether `stable` named another version before."""

    service: str
    stable: str
    previous: str | None
    changed: bool


def promote(store: ModelStore, service: str, version: str) -> Release:
    """Make a version (or what an alias names, such as `canary`) the one that serves.

    Nothing changes where it serves already, so that what came before it stays known.

    Raises:
        BundleNotFound: no such version
        BundleRefused: it fails its checksums, is of a newer format, or its parts were not trained together
    """
    with store.changing(service):
        return promote_while_changing(store, service, version)


def promote_while_changing(store: ModelStore, service: str, version: str) -> Release:
    """`promote`, as one step of a change that its caller makes within `store.changing(service)`."""
    version = verified(store, service, version)
    before = store.alias(service, STABLE)
    if before == version:
        return Release(service, version, store.alias(service, PREVIOUS), changed=False)
    if before is not None:
        store.set_alias(service, PREVIOUS, before)
    store.set_alias(service, STABLE, version)
    return Release(service, version, before, changed=True)


def rollback(store: ModelStore, service: str) -> Release:
    """Make the version that served before serve again; the two change places, so doing it twice undoes it.

    Raises:
        NothingBefore: no version served before this one
        BundleRefused: the one before is harmed
    """
    with store.changing(service):
        stable, previous = store.alias(service, STABLE), store.alias(service, PREVIOUS)
        if previous is None or previous == stable:
            raise NothingBefore(
                f"no version of {service!r} served before {stable or 'this'}; "
                f"promote one of {', '.join(store.versions(service)) or 'none'}"
            )
        verified(store, service, previous)
        store.set_alias(service, STABLE, previous)
        if stable is not None:
            store.set_alias(service, PREVIOUS, stable)
        return Release(service, previous, stable, changed=True)


def retention(store: ModelStore, service: str, keep: int) -> list[str]:
    """Remove all but the `keep` versions made last and those that an alias names; returns what was removed.

    A version whose manifest cannot be read is left for a person to look at.
    """
    if keep < 1:
        raise ValueError(f"keep {keep} versions: give 1 or more")
    with store.changing(service):
        made = []
        for version in store.versions(service):
            try:
                made.append((store.manifest(service, version).created, version))
            except BundleRefused:
                continue
        named = set(store.aliases(service).values())
        surplus = [version for _, version in sorted(made)[:-keep] if version not in named]
        for version in surplus:
            store.remove(service, version)
        return surplus


def verified(store: ModelStore, service: str, version: str) -> str:
    """The version that a version or alias stands for, its files and lineage in order.

    Raises BundleNotFound and BundleRefused, as `promote` does.
    """
    bundle = store.bundle(service, version)
    require_one_lineage(service, bundle.path)
    return bundle.version
