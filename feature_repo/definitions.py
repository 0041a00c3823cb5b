"""Feast definitions: one entity, two views.

`user_profile` is what a shop knows of a user, `user_activity` what the user did lately; the latter takes pushes, so
that a click changes it within a second. Field names are those of the library's feature list.
"""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Float64, String

from cascade.online.feast_config import ACTIVITY_PUSH_SOURCE, ACTIVITY_VIEW, ENTITY, PROFILE_VIEW
from cascade.settings import Settings

_offline = Settings().feast_dir.absolute() / "offline"

user = Entity(name=ENTITY, join_keys=[ENTITY], value_type=ValueType.STRING, description="a visitor of the shop")

profile_source = FileSource(
    name="user_profile_source",
    path=str(_offline / "user_profile.parquet"),
    timestamp_field="event_timestamp",
)

user_profile = FeatureView(
    name=PROFILE_VIEW,
    entities=[user],
    schema=[Field(name="age", dtype=Float64), Field(name="gender", dtype=String)],
    source=profile_source,
    ttl=timedelta(0),  # a profile does not expire
    description="age in years and gender, as the shop knows them",
)

activity_source = FileSource(
    name="user_activity_source",
    path=str(_offline / "user_activity.parquet"),
    timestamp_field="event_timestamp",
)

activity_push = PushSource(name=ACTIVITY_PUSH_SOURCE, batch_source=activity_source)

user_activity = FeatureView(
    name=ACTIVITY_VIEW,
    entities=[user],
    schema=[Field(name="top_category", dtype=String)],
    source=activity_push,
    ttl=timedelta(days=1),
    description="the category_l1 met most in the 24 hours before the timestamp (ties: the latest)",
)
