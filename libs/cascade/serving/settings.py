"""Settings that services share. Each service has a subclass with its own prefix and reads the environment there alone.

A service takes the groups it needs:

    class RankerSettings(ServiceSettings, BundleSettings, BatchSettings):
        model_config = SettingsConfigDict(env_prefix="CASCADE_RANKER_", env_file=".env", extra="ignore", frozen=True)

The tables in the services' READMEs are held against the fields by a test (`settings_table` prints them).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=1, le=65535)]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["json", "console"]
Profile = Literal["local", "production"]

_PLACEHOLDERS = ("change", "secret", "password", "example", "default", "insecure", "placeholder", "todo")
_FEWEST_CHARACTERS = 8


def is_guessable(secret: str) -> bool:
    """Whether a secret is one of those that stand in examples, or has too few different characters to be random."""
    return any(word in secret.lower() for word in _PLACEHOLDERS) or len(set(secret)) < _FEWEST_CHARACTERS


class Checked(BaseSettings):
    """Settings that tell what of them is unsafe."""

    def unsafe(self) -> list[str]:
        """What production may not start with: the setting, and what it needs."""
        return []


class ServiceSettings(Checked):
    """What every service needs."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True)

    profile: Profile = Field(
        "local", description="`production` refuses to start with default, guessable or missing secrets"
    )
    internal_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="bearer token that services ask of their callers, and for `POST /internal/refresh`, which without "
        "one does not exist; production needs it",
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: Port = Field(8000, description="port to listen on")
    log_level: LogLevel = Field("info", description="lowest level that is logged")
    log_format: LogFormat = Field("json", description="`json` for machines, `console` for people")
    log_users: Literal["plain", "hashed"] = Field(
        "plain", description="ids of users in the log as they are, or by the first 16 digits of their SHA-256"
    )
    access_log: bool = Field(True, description="log every request; otherwise those alone that met a problem")
    max_body_bytes: int = Field(1_048_576, ge=1024, description="largest request body; beyond it 413")
    ready_timeout_s: float = Field(1.0, gt=0, description="time that each readiness check may take")
    shutdown_timeout_s: int = Field(20, ge=0, description="time for requests in flight when the service is stopped")
    tracing_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description="collector that takes traces by OTLP over HTTP, `http://host:4318`; needs the extra `tracing`; "
        "none: no traces",
    )
    tracing_sample: float = Field(
        1.0, ge=0, le=1, description="share of requests that are traced; a caller that decided already is followed"
    )

    @property
    def in_production(self) -> bool:
        """Whether this is no trial."""
        return self.profile == "production"

    def unsafe(self) -> list[str]:
        """See Checked."""
        faults = super().unsafe()
        if self.internal_token is None:
            faults.append("internal_token is missing; give every service the same random one")
        elif is_guessable(self.internal_token.get_secret_value()):
            faults.append("internal_token can be guessed; make one with `openssl rand -hex 32`")
        return faults

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if self.in_production and (faults := self.unsafe()):
            raise ValueError("production refuses to start: " + "; ".join(faults))
        return self


class RedisSettings(Checked):
    """For services that talk to Redis."""

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:8379/0"), description="Redis or Valkey that holds the online state"
    )
    redis_timeout_ms: int = Field(250, ge=1, description="time for one command or connection; beyond it 503")
    redis_connections: int = Field(32, ge=1, description="commands in flight at once; others wait in the queue")

    def unsafe(self) -> list[str]:
        """See Checked."""
        faults = super().unsafe()
        if not urlsplit(self.redis_url.get_secret_value()).password:
            faults.append("redis_url names no password; protect Redis by one")
        return faults


class BundleSettings(BaseSettings):
    """For services that serve a model bundle."""

    model_store: str = Field(".cascade/models", description="folder or fsspec URL of the model store")
    alias: Literal["stable", "canary"] = Field("stable", description="which version to follow")
    alias_poll_s: float = Field(2.0, gt=0, description="time between looks at the alias")


class BatchSettings(BaseSettings):
    """For services that compute in batches."""

    batch_max_size: int = Field(16, ge=1, description="most requests in one forward pass")
    batch_max_wait_ms: float = Field(
        0.0, ge=0, description="time a batch under load waits for company; a lone request never waits"
    )
    batch_in_thread: bool = Field(
        False, description="compute in a thread beside the event loop: for a GPU, whose work is mostly waited for"
    )
    canary_in_thread: bool = Field(
        True, description="while there is a canary, compute it and stable in a thread each: a slow one delays no other"
    )
    queue_bound: int = Field(256, ge=1, description="requests that may wait; beyond it 429")
    threads: int = Field(1, ge=1, description="threads of torch, FAISS and BLAS")


class TrackSettings(BundleSettings, BatchSettings):
    """For services that hold a canary beside what is stable, and compute in batches."""


def settings_table(settings: type[BaseSettings]) -> str:
    """Markdown table of a settings class: variable, default, meaning."""
    prefix = settings.model_config.get("env_prefix", "")
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in settings.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        shown = "" if default is None else f"`{default}`"
        lines.append(f"| `{prefix}{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(lines)
