"""What the services read at request time: user features in Feast's online store, popularity in Redis."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
from redis import Redis

from cascade.features.point_in_time import ONLINE_SCHEMA, online_top_categories
from cascade.features.popularity import Popularity
from cascade.features.recent import recent_interactions
from cascade.files import replacing
from cascade.online.activity import ACTIVITY_FILE, offline_activity_lock
from cascade.online.feast_config import ACTIVITY_VIEW, PROFILE_VIEW, feature_store
from cascade.online.marks import mark_built
from cascade.online.materialise import materialise
from cascade.online.popular import write_popular
from cascade.online.recent import fill_recent
from orchestration.assets.features import INTERACTIONS, limits, popularity
from orchestration.base import base_of
from orchestration.provenance import reads
from orchestration.workspace import Workspace

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dg.asset(
    group_name="online",
    code_version="3",
    deps=[INTERACTIONS],
    metadata=reads("redis_url", "event_weights", "training_query", "recent_days"),
    kinds={"feast", "redis"},
)
def online_features(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """Every user's age, gender and top category: Feast's offline files, `apply`, online rows; latest interactions."""
    settings = workspace.settings
    with workspace.making(context) as making:
        last = base_of(settings).days[-1]
        # the shop's present: the moment after its last whole day
        now = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
        offline = settings.feast_dir.absolute() / "offline"
        offline.mkdir(parents=True, exist_ok=True)
        profiles = _profiles(workspace.dataset.users(), now - timedelta(days=1))
        activity = online_top_categories(
            workspace.dataset, int(now.timestamp()), weights=settings.event_weights, limits=limits(workspace)
        )
        pq.write_table(profiles, offline / "user_profile.parquet", coerce_timestamps="us")
        with offline_activity_lock(offline / ACTIVITY_FILE), replacing(offline / ACTIVITY_FILE) as beside:
            pq.write_table(activity.cast(ONLINE_SCHEMA), beside, coerce_timestamps="us")
        making.report(1, 4)

        store = feature_store(settings.feast_dir.absolute() / "registry.db", settings.redis())
        from feature_repo import definitions

        store.apply([definitions.user, definitions.user_profile, definitions.user_activity, definitions.activity_push])
        making.report(2, 4)
        with Redis.from_url(settings.redis()) as client:
            materialise(store, client, PROFILE_VIEW, profiles, EPOCH, now)
            materialise(store, client, ACTIVITY_VIEW, activity, EPOCH, now)
            making.metadata["users_with_recent_items"] = _fill_recent(workspace, client, int(now.timestamp()))
        mark_built(settings.redis(), "online_features", making.digest)
        making.metadata |= {
            "dagster/row_count": len(profiles),
            "users_with_top_category": len(activity),
            "as_of": now.isoformat(),
        }
    return making.result()


@dg.asset(group_name="online", code_version="1", deps=[popularity], metadata=reads("redis_url"), kinds={"redis"})
def online_popularity(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """Popular items into Redis, for answers without the models."""
    settings = workspace.settings
    with workspace.making(context) as making:
        popular = Popularity.load(workspace.folder("popularity") / "popularity.json")
        with Redis.from_url(settings.redis()) as client:
            write_popular(client, popular.global_, popular.by_l1, popular.by_l2)
        mark_built(settings.redis(), "online_popularity", making.digest)
        making.metadata |= {"categories": len(popular.by_l1), "subcategories": len(popular.by_l2)}
    return making.result()


def _fill_recent(workspace: Workspace, client: Redis, now: int) -> int:
    """What users did last, for a query tower that reads it; live traffic's own lists stay. How many were written."""
    settings = workspace.settings
    if settings.training_query != "session" or not settings.recent_days:
        return 0
    users = recent_interactions(workspace.dataset, now, settings.recent_days, limits=limits(workspace))
    return sum(fill_recent(client, part) for part in users)


def _profiles(users: pa.Table, known_since: datetime) -> pa.Table:
    stamp = pa.scalar(known_since, pa.timestamp("us", tz="UTC"))
    return pa.table(
        {
            "user_id": users.column("user_id"),
            "age": users.column("age").cast(pa.float64()),
            "gender": users.column("gender"),
            "event_timestamp": pa.repeat(stamp, len(users)),
        }
    )
