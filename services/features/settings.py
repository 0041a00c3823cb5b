"""Settings of the features worker; the only place that reads its environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from cascade.features.top_category import EVENT_WEIGHTS
from cascade.serving.settings import BundleSettings, Port, RedisSettings, ServiceSettings


class FeaturesSettings(ServiceSettings, RedisSettings, BundleSettings):
    """Environment prefix CASCADE_FEATURES_."""

    model_config = SettingsConfigDict(env_prefix="CASCADE_FEATURES_", env_file=".env", extra="ignore", frozen=True)

    port: Port = Field(8004, description="port to listen on")
    redis_timeout_ms: int = Field(2000, ge=1, description="time for one command or connection; beyond it tried again")

    dataset: Path = Field(Path(".cascade/shop"), description="dataset folder that live traffic is written to")
    feast_registry: Path = Field(Path(".cascade/feast/registry.db"), description="Feast's registry file")
    event_weights: dict[str, int] = Field(
        dict(EVENT_WEIGHTS), description="what an event of each type adds to its category (JSON); others add 1"
    )

    cycle_ms: int = Field(50, ge=0, description="shortest time between two pushes of features")
    read_count: int = Field(1000, ge=1, description="most entries read at once")
    flush_s: float = Field(2.0, gt=0, description="longest time that entries gather before they are written")
    flush_entries: int = Field(5000, ge=1, description="entries after which they are written at once")
    most_held: int = Field(100_000, ge=1, description="entries held in memory, after which no more are read")
    claim_after_s: float = Field(30.0, gt=0, description="time after which others take over what a worker left")
    attribution_s: float = Field(60.0, ge=0, description="time a list waits for its clicks before it is written")
    tries: int = Field(5, ge=1, description="tries of an entry that cannot be used, then it is a dead letter")
    retry_s: float = Field(1.0, ge=0, description="time before the second try; doubled for each further one")
    dead_letters: int = Field(100_000, ge=1, description="dead letters kept, about")
    offline_push_s: float = Field(10.0, gt=0, description="time between pushes to Feast's offline store")
    artifacts: Path | None = Field(
        None, description="folder of the build's artifacts, to remove a forgotten user's rows from; none: left alone"
    )
    forget_poll_s: float = Field(1.0, gt=0, description="time between looks for users to forget")
    forget_settle_s: float = Field(
        2.0, ge=0, description="time from the request to the removal, in which what was under way ends"
    )
    offline_rows: int = Field(
        200_000, ge=1000, description="rows of the offline store after which the older half goes, until the next build"
    )
    drift_poll_s: float = Field(30.0, gt=0, description="time between looks at the pipeline's drift report")
