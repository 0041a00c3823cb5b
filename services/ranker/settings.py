"""Settings of the ranker; the only place that reads its environment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from cascade.serving.settings import Port, ServiceSettings, TrackSettings

Device = Literal["auto", "cpu", "cuda"]


class RankerSettings(ServiceSettings, TrackSettings):
    """Environment prefix CASCADE_RANKER_."""

    model_config = SettingsConfigDict(env_prefix="CASCADE_RANKER_", env_file=".env", extra="ignore", frozen=True)

    port: Port = Field(8003, description="port to listen on")
    access_log: bool = Field(
        False,
        description="log every request; otherwise those alone that met a problem (the gateway logs each visitor's)",
    )
    device: Device = Field("auto", description="where the model runs: `auto` takes a GPU where there is one")
    precompute_max_mb: int = Field(
        4096, ge=0, description="MiB for what is computed of every item beforehand; a larger catalog does without"
    )
