"""What the settings say may be kept no longer, removed: interactions, impressions, offline features."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from cascade.data.contract import IMPRESSIONS, INTERACTIONS, Dataset
from cascade.data.retention import drop_days, drop_rows
from cascade.online.activity import ACTIVITY_FILE, offline_activity_lock
from cascade.settings import Settings


def retain(settings: Settings, today: date | None = None) -> dict[str, int]:
    """Days of interactions and impressions, and rows of features, that went. A setting that is None keeps all.

    Ages count from today, or from the shop's last day where that lies behind: a log of last year is not all old.
    """
    today = today or datetime.now(UTC).date()
    last = max(Dataset(settings.dataset_dir).days(), default=today)
    now = min(today, last + timedelta(days=1))

    def before(days: int | None) -> date:
        return date.min if days is None else now - timedelta(days=days)

    activity = settings.feast_dir / "offline" / ACTIVITY_FILE
    with offline_activity_lock(activity):
        features = drop_rows(activity, before(settings.keep_features_days)) if settings.keep_features_days else 0
    return {
        INTERACTIONS: len(drop_days(settings.dataset_dir / INTERACTIONS, before(settings.keep_interactions_days))),
        IMPRESSIONS: len(drop_days(settings.dataset_dir / IMPRESSIONS, before(settings.keep_impressions_days))),
        "feature_rows": features,
    }
