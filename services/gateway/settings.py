"""Settings of the gateway, and its only reader of the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from cascade.api.common import MAX_CANDIDATES
from cascade.serving.settings import BundleSettings, Port, RedisSettings, ServiceSettings


class GatewaySettings(ServiceSettings, RedisSettings, BundleSettings):
    """What the gateway needs to know."""

    model_config = SettingsConfigDict(env_prefix="CASCADE_GATEWAY_", env_file=".env", extra="ignore", frozen=True)

    port: Port = Field(8000, description="port to listen on")

    retrieval_url: str = Field(
        "http://127.0.0.1:8001",
        description="where the retrieval service listens: a replica for each address of the name; commas part URLs",
    )
    filter_url: str = Field("http://127.0.0.1:8002", description="where the filter service listens; as above")
    ranker_url: str = Field("http://127.0.0.1:8003", description="where the ranker service listens; as above")
    resolve_s: float = Field(1.0, gt=0, description="time between looks for the replicas of the three services")
    replica_connections: int = Field(
        256, ge=1, description="connections to one replica of a service at once; calls beyond wait for one"
    )
    eject_s: float = Field(
        1.0, gt=0, description="time a failing replica gets no calls; twice as long each time, up to 16 times"
    )
    eject_after: int = Field(
        5, ge=1, description="calls late or answered 5xx in a row that eject a replica; an unreachable one goes at once"
    )
    eject_share: float = Field(
        0.5, ge=0, le=1, description="share of a service's replicas that may be out for being late or answering 5xx"
    )
    feast_registry: Path = Field(
        Path(".cascade/feast/registry.db"), description="Feast's registry file, for user features"
    )
    images_dir: Path | None = Field(
        None, description="folder of item pictures, served below /images; none: no pictures"
    )

    storefront: bool = Field(
        False,
        description="serve the storefront at / with what it needs: users, explanations, models, live figures; "
        "for people inside the shop, never for the internet",
    )
    api_keys_file: Path | None = Field(
        None, description="file of API keys, written by `cascade keys`; looked at again and again; none: no keys"
    )
    api_keys_poll_s: float = Field(2.0, gt=0, description="time between looks at that file")
    require_keys: bool = Field(
        False, description="every request but health and pages needs an API key; production always asks for one"
    )
    rate_limit: float = Field(1000.0, gt=0, description="requests a second of one API key; beyond it 429")
    rate_burst: int = Field(2000, ge=1, description="requests of one API key at once, after a rest")
    rate_timeout_ms: int = Field(
        50, ge=1, description="time for Redis to count them; beyond it each gateway counts for itself"
    )
    cors_origins: list[str] = Field([], description="origins whose pages may call, as JSON; none: no other's")
    max_event_streams: int = Field(100, ge=1, description="event streams open at once; beyond it 429")

    candidates: int = Field(300, ge=1, le=MAX_CANDIDATES, description="items that retrieval is asked for")
    deeper: int = Field(1000, ge=1, le=MAX_CANDIDATES, description="items asked for when filtering leaves fewer than k")
    overlap: bool = Field(
        False, description="ask filter and ranker at once: less waiting, more work (docs/performance.md has both)"
    )
    max_in_flight: int = Field(
        128, ge=1, description="recommendations, and as many interactions, in hand at once; beyond it 429"
    )
    features_timeout_ms: int = Field(150, ge=1, description="time for a user's features; beyond it degraded")
    retrieval_timeout_ms: int = Field(300, ge=1, description="time for retrieval; beyond it degraded")
    filter_timeout_ms: int = Field(150, ge=1, description="time for the filter; beyond it degraded")
    ranker_timeout_ms: int = Field(300, ge=1, description="time for the ranker; beyond it degraded")
    deadline_ms: int = Field(
        225, ge=1, description="time for all stages together; a caller's own `X-Deadline-Ms` can only shorten it"
    )
    stage_share: float = Field(
        0.6, gt=0, le=1, description="part of what is left that one stage may take; the ranker, the last, all of it"
    )
    breaker_after: int = Field(
        5, ge=1, description="calls late or failed in a row after which a stage is done without (circuit breaker)"
    )
    breaker_s: float = Field(
        0.5, gt=0, description="time until one request tries it again; twice as long each time, up to 4 times"
    )
    popular_timeout_ms: int = Field(100, ge=1, description="time for popular items from Redis; beyond it the bundle's")
    write_timeout_ms: int = Field(1000, ge=1, le=30_000, description="time to record or forget; beyond it 503")
    canary_poll_s: float = Field(
        2.0, gt=0, description="time between looks at which canaries run, and how long each look may take"
    )
    canary_keep_s: float = Field(
        5.0, ge=0, description="how long a canary goes on when the model store cannot be read; then nobody has it"
    )
    canary_time_share: float = Field(
        0.5, gt=0, lt=1, description="part of its stage's time that a canary may take; the rest is left to ask stable"
    )
    track_header: bool = Field(
        True, description="a request may name its tracks in X-Cascade-Track; off where it comes from the internet"
    )
    trace_header: bool = Field(
        True, description="a request may name its trace in traceparent; off where it comes from the internet"
    )
    clock_skew_s: int = Field(3600, ge=0, description="how far in the future an interaction's timestamp may lie")
    oldest_s: int = Field(
        2_592_000,
        ge=0,
        description="how far in the past it may lie: an older one would open a day that is long learned",
    )

    impressions_queue: int = Field(2000, ge=1, description="lists shown that may wait to be logged; beyond it shed")
    impressions_kept: int = Field(
        200_000, ge=1, description="about how many impressions the stream keeps for its readers; the oldest go"
    )
    impressions_drain_s: float = Field(1.0, ge=0, description="time at shutdown to log what waits")
    served_share: float = Field(
        0.25,
        ge=0,
        le=1,
        description="share of each hour's visitors whose lists are logged with age, gender, top category and number of "
        "recent items as the models were served with them, for drift to be seen",
    )

    @property
    def keys_required(self) -> bool:
        """Whether a request needs an API key."""
        return self.require_keys or self.in_production

    def unsafe(self) -> list[str]:
        """See Checked."""
        faults = super().unsafe()
        if self.api_keys_file is None:
            faults.append("api_keys_file is missing; make keys with `cascade keys create`")
        if self.storefront:
            faults.append("storefront shows every visitor's data and sends no key; leave it off")
        if "*" in self.cors_origins:
            faults.append("cors_origins lets every page call; name the origins")
        return faults
