"""Which model versions learned from a user's days."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

from cascade.store import ModelStore
from cascade.store.errors import BundleNotFound, BundleRefused

_LEARNING = ("retrieval", "ranker")
_REPLACED = (
    "by the next full retrain (Sundays at 04:00 UTC where schedules are on, or the job full_retrain); "
    "fine-tunings until then go on from it and do not see the user"
)
_AGES = "it serves no more, and goes when newer versions have pushed it out"


def trained_on(store: ModelStore, days: Collection[date]) -> list[dict[str, object]]:
    """Versions whose training days hold one of these: service, version, aliases, the days, when it is replaced."""
    found: list[dict[str, object]] = []
    for service in _LEARNING:
        aliases = store.aliases(service)
        for version in store.versions(service):
            try:
                learned = set(store.manifest(service, version).training_days) & set(days)
            except (BundleNotFound, BundleRefused):
                continue  # removed meanwhile, or not a version that can serve
            if learned:
                names = sorted(alias for alias, named in aliases.items() if named == version)
                found.append(
                    {
                        "service": service,
                        "version": version,
                        "aliases": names,
                        "days": [day.isoformat() for day in sorted(learned)],
                        "replaced": _REPLACED if names else _AGES,
                    }
                )
    return found
