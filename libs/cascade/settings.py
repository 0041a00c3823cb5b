"""Project settings: one place, read from the environment (prefix CASCADE_) or a `.env` file.

The pipeline, Feast and the `cascade` command share these. Each service has a settings module of its own; `cascade up`
hands the shared values down to it. `docs/settings.md` is held against the fields below by a test.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from cascade.features.top_category import EVENT_WEIGHTS

REDIS_HOST = "127.0.0.1"
"""Where the Redis that Cascade starts listens, whatever `host` is: it asks for no password."""

Port = Annotated[int, Field(ge=1, le=65535)]
Percent = Annotated[float, Field(gt=0, le=100)]


class Settings(BaseSettings):
    """What the build and the local run need to know."""

    model_config = SettingsConfigDict(env_prefix="CASCADE_", env_file=".env", extra="ignore", frozen=True)

    # Where
    state_dir: Path = Field(Path(".cascade"), description="everything a run writes: data, artifacts, models, logs")
    shop: Path | None = Field(None, description="a dataset folder of your own; none: the built-in shop")
    redis_url: SecretStr | None = Field(None, description="a Redis or Valkey to use; none: start one")
    model_store: str | None = Field(None, description="folder or fsspec URL of bundles; none: <state_dir>/models")

    # Who may ask
    api_keys_file: Path | None = Field(
        None, description="file of API keys that `cascade keys` writes; none: <state_dir>/api-keys.json"
    )
    api_key: SecretStr | None = Field(None, description="API key that commands send to a gateway that asks for one")
    internal_token: SecretStr | None = Field(
        None, min_length=16, description="what gateways in production ask of whoever reads their metrics"
    )

    # Where traces go
    tracing_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description="collector that services send traces to by OTLP over HTTP, `http://host:4318`; none: no traces",
    )
    tracing_sample: float = Field(1.0, ge=0, le=1, description="share of requests that are traced")

    keep_versions: int = Field(10, ge=1, description="newest versions of a service's bundle that retention keeps")

    # What is kept no longer
    keep_interactions_days: int | None = Field(
        None, ge=1, description="days that interactions are kept; none: for ever; more than a full training needs"
    )
    keep_impressions_days: int | None = Field(None, ge=1, description="days that impressions are kept; none: likewise")
    keep_features_days: int | None = Field(
        None, ge=1, description="days that offline features of users who did nothing since are kept; none: likewise"
    )

    # The built-in shop
    shop_size: Literal["tiny", "small", "seed"] = Field("small", description="size of the built-in shop")
    shop_first_day: date = Field(date(2026, 1, 5), description="first day of the built-in shop (UTC)")
    seed: int = Field(7, ge=0, description="seed of everything that draws")

    # Which days train
    train_share: float = Field(0.643, gt=0, lt=1, description="share of all days that the full training sees")
    kept_days: int | None = Field(
        None, ge=0, description="last days kept for fine-tuning; none: 2, or 3 where there are fewer than 14 days"
    )

    # Features and models
    event_weights: dict[str, int] = Field(
        dict(EVENT_WEIGHTS),
        description="what an event of each type adds to its category in `top_category` (JSON); others add 1",
    )
    click_weights: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(
        {}, description="what an interaction of each type counts for when the ranker learns (JSON); others count 1"
    )
    shown_per_click: float = Field(
        1.0,
        ge=0,
        le=20,
        description="items of logged lists that the ranker learns from beside each interaction, at most; 0: none",
    )
    mask_share: float = Field(0.05, ge=0, lt=1, description="share of training rows masked as cold; devices likewise")
    text_encoder: str = Field("all-MiniLM-L6-v2", description="sentence-transformers model: name or local folder")
    image_encoder: str = Field(
        "shop-clip", description="`shop-clip` (trained on the shop) or an open_clip model: name or folder"
    )
    clip_epochs: int | None = Field(None, ge=1, description="epochs of the shop's CLIP; none: the library's default")
    training_query: Literal["static", "context", "session"] = Field(
        "session",
        description="what retrieval's query tower reads: `static` the user's features; `context` also device, hour and "
        "weekday; `session` also the user's latest 50 interactions, which the ranker reads then too",
    )
    training_attention_heads: int = Field(
        0,
        ge=0,
        le=8,
        description="heads of target attention, by which the ranker compares a candidate with those interactions; 0: "
        "none",
    )
    two_tower_epochs: int | None = Field(
        None, ge=1, description="most epochs of the two towers; none: more the smaller the shop"
    )
    dlrm_epochs: int | None = Field(None, ge=1, description="most epochs of the ranker; none: likewise")
    training_rows_at_most: int | None = Field(
        8_000_000,
        ge=10_000,
        description="rows that a full training learns from, over all its epochs; it ends there, even within its first",
    )
    training_threads: int = Field(2, ge=1, description="threads of the CPU that train and judge a model")
    recent_days: int = Field(
        7, ge=0, description="last days of the shop whose interactions a build puts among users' recent items"
    )
    training_processes: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1, description="processes that train a model together, a GPU each where there are any; `auto`: one for each GPU"
    )
    recall_target: float = Field(0.97, gt=0, le=1, description="recall against exact search that the index must reach")
    auc_margin: float = Field(0.05, ge=0, lt=0.5, description="how far above 0.5 the ranker's AUC must be")
    evaluation_rows: int = Field(3_000, ge=100, description="interactions that an evaluation samples")
    duckdb_memory: str = Field("4GB", description="memory limit of DuckDB in the build")

    # The daily loop
    day_grace_minutes: int = Field(
        30, ge=0, description="minutes after its end at which a day is complete where no later day has begun"
    )
    replay_days: int = Field(2, ge=0, description="random training days that fine-tuning replays")
    replay_share: float = Field(0.3, ge=0, description="replayed rows, at most, as a share of the new day's")
    holdout_share: float = Field(
        0.1, gt=0, lt=1, description="last part of a new day that no model learns from: the gates judge on it"
    )
    two_tower_fine_tuning_rate: float = Field(5e-4, gt=0, description="learning rate of the query tower on a new day")
    dlrm_fine_tuning_rate: float = Field(2e-4, gt=0, description="learning rate of the ranker on a new day")
    gate_rows: int = Field(5_000, ge=1, description="held-out rows that the gates sample")
    gate_slice_rows: int = Field(200, ge=1, description="rows below which a slice is not judged")
    gate_slice_factor: float = Field(3.0, ge=1, description="how much wider the tolerances of a slice are")
    gate_recall_tolerance: float = Field(0.01, ge=0, description="how much lower Recall@100 may be than what serves")
    gate_ndcg_tolerance: float = Field(0.01, ge=0, description="how much lower NDCG@10 may be")
    gate_auc_tolerance: float = Field(0.005, ge=0, description="how much lower the AUC may be")
    gate_calibration_tolerance: float = Field(0.01, ge=0, description="how much higher the calibration error may be")
    retrain_evaluation_days: int = Field(
        1, ge=1, description="last complete days that a full retrain evaluates on; it trains on all before"
    )

    # Drift: what is served against what was trained on
    drift_hours: int = Field(1, ge=1, le=24, description="whole hours that the hourly look at drift goes back over")
    drift_min_visitors: int = Field(
        500,
        ge=1,
        description="visitors of a window below which a feature is not judged: fewer drift by chance alone",
    )

    # Canary: how a new model is led from few users to all
    canary_steps: Annotated[list[Percent], Field(min_length=1)] = Field(
        [1.0, 5.0, 25.0, 100.0], description="shares of the users that the canary gets, in percent, one after another"
    )
    canary_pause_s: float = Field(600.0, ge=0, description="shortest time of a step")
    canary_look_s: float = Field(10.0, gt=0, description="time between looks at the evidence")
    canary_limit_s: float = Field(14_400.0, gt=0, description="longest time of a step that gathers too little evidence")
    canary_at_limit: Literal["abort", "hold"] = Field(
        "abort", description="what then: back to stable, or the share stays, unwatched, until somebody decides"
    )
    canary_false_alarms: float = Field(
        0.01, gt=0, lt=1, description="chance that a canary which is not worse is aborted, over all its looks together"
    )
    canary_min_alarm: int = Field(
        20, ge=1, description="outcomes of the canary that a signal needs before it may find it worse"
    )
    canary_min_calls: int = Field(500, ge=1, description="calls to the canary before a step may end well")
    canary_min_users: int = Field(
        500, ge=1, description="users shown a list, on either track, before the last step below 100 % may end well"
    )
    canary_error_tolerance: float = Field(
        0.005, ge=0, lt=1, description="how much higher its share of failed calls may be"
    )
    canary_degraded_tolerance: float = Field(0.01, ge=0, lt=1, description="likewise of lists made without a stage")
    canary_slow_tolerance: float = Field(
        0.01, ge=0, lt=1, description="likewise of calls slower than stable's p99 times the factor"
    )
    canary_slow_factor: float = Field(1.25, ge=1, description="that factor")
    canary_click_tolerance: float = Field(
        0.05, ge=0, lt=1, description="how much lower its click-through may be, as a share of stable's"
    )
    canary_click_wait_s: float = Field(
        30.0, ge=0, description="time a list waits for its click; with a look below CASCADE_FEATURES_ATTRIBUTION_S"
    )
    canary_gateways: str | None = Field(
        None, description="URLs of the gateways whose metrics tell, commas between; none: that of the local run"
    )
    canary_prometheus: str | None = Field(
        None, description="URL of a Prometheus that scrapes the gateways, asked instead; none: they are asked"
    )

    # On a cluster
    automation: bool = Field(
        False, description="the schedules and the sensor for new items are on from the start, without being asked"
    )
    step_pods: Literal["cpu", "gpu"] | None = Field(
        None, description="on Kubernetes: a pod for each step; `gpu`: torch's ask for one; none: one process"
    )

    # Addresses of the local run
    host: str = Field("127.0.0.1", description="address that services bind to")
    gateway_port: Port = Field(8000, description="port of the gateway")
    retrieval_port: Port = Field(8001, description="port of the retrieval service")
    filter_port: Port = Field(8002, description="port of the filter")
    ranker_port: Port = Field(8003, description="port of the ranker")
    features_port: Port = Field(8004, description="port of the features worker")
    dagster_port: Port = Field(3000, description="port of Dagster's page")
    redis_port: Port = Field(8379, description="port of the Redis that `cascade up` starts")
    redis_appendfsync: Literal["always", "everysec", "no"] = Field(
        "always", description="when that Redis syncs its file; `always`: no answered click is lost, even by kill -9"
    )

    @property
    def own_shop(self) -> bool:
        """Whether the data comes from a folder of the user's."""
        return self.shop is not None

    @property
    def dataset_dir(self) -> Path:
        """The dataset folder that everything is built from."""
        return self.shop if self.shop is not None else self.state_dir / "shop"

    @property
    def artifacts_dir(self) -> Path:
        """One folder an asset."""
        return self.state_dir / "artifacts"

    @property
    def model_store_url(self) -> str:
        """Root of the model store."""
        return self.model_store or str(self.state_dir / "models")

    @property
    def keys_file(self) -> Path:
        """Hashes of the gateway's API keys."""
        return self.api_keys_file or self.state_dir / "api-keys.json"

    @property
    def feast_dir(self) -> Path:
        """Feast's registry and offline files."""
        return self.state_dir / "feast"

    @property
    def dagster_home(self) -> Path:
        """Dagster's instance folder."""
        return self.state_dir / "dagster"

    @property
    def redis_dir(self) -> Path:
        """Append-only file of the embedded Redis."""
        return self.state_dir / "redis"

    @property
    def run_dir(self) -> Path:
        """Process table, sockets and logs of the local run."""
        return self.state_dir / "run"

    def redis(self) -> str:
        """URL of the Redis to talk to; the one that `cascade up` starts when none is set."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        return f"redis://{REDIS_HOST}:{self.redis_port}/0"
