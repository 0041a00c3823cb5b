"""Settings of the filter service; the only place that reads its environment."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from cascade.online.keys import SEEN_TTL_S
from cascade.serving.settings import Port, RedisSettings, ServiceSettings


class FilterSettings(ServiceSettings, RedisSettings):
    """Environment prefix CASCADE_FILTER_."""

    model_config = SettingsConfigDict(env_prefix="CASCADE_FILTER_", env_file=".env", extra="ignore", frozen=True)

    port: Port = Field(8002, description="port to listen on")
    access_log: bool = Field(
        False,
        description="log every request; otherwise those alone that met a problem (the gateway logs each visitor's)",
    )
    queue_bound: int = Field(512, ge=1, description="requests that may wait for a connection to Redis; beyond it 429")
    seen_capacity: int = Field(
        1000, ge=1, description="a user's newest interactions that stay hidden; beyond it the oldest return first"
    )
    seen_error_rate: float = Field(
        0.01, gt=0, lt=1, description="share of unseen items hidden by mistake, at most, however much a user has seen"
    )
    seen_ttl_s: int = Field(SEEN_TTL_S, ge=1, description="seconds an item stays hidden after it was met last")
    cached_items: int = Field(200_000, ge=1, description="items whose hashes are kept in memory (24 bytes each)")
