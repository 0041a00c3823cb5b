"""Settings of the retrieval service; the only place that reads its environment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from cascade.serving.settings import Port, ServiceSettings, TrackSettings

Device = Literal["auto", "cpu", "cuda"]


class RetrievalSettings(ServiceSettings, TrackSettings):
    """Environment prefix CASCADE_RETRIEVAL_."""

    model_config = SettingsConfigDict(env_prefix="CASCADE_RETRIEVAL_", env_file=".env", extra="ignore", frozen=True)

    port: Port = Field(8001, description="port to listen on")
    access_log: bool = Field(
        False,
        description="log every request; otherwise those alone that met a problem (the gateway logs each visitor's)",
    )
    batch_max_size: int = Field(32, ge=1, description="most requests in one forward pass and one search")
    device: Device = Field("auto", description="where the query tower runs: `auto` takes a GPU where there is one")
