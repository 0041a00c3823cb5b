"""What a local run consists of: which programs, with which environment, listening where."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from cascade.local.probes import Probe, http_probe, http_url, redis_probe
from cascade.settings import REDIS_HOST, Settings

REDIS, RETRIEVAL, FILTER, RANKER, GATEWAY, FEATURES, DAGSTER = (
    "redis",
    "retrieval",
    "filter",
    "ranker",
    "gateway",
    "features",
    "dagster",
)
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait for work sleep. By default torch's spin, which on few cores takes time from those that work."""
MODEL_SERVICES = (RETRIEVAL, FILTER, RANKER)
BUNDLE_SERVICES = (RETRIEVAL, RANKER, GATEWAY)
"""Those that follow an alias of the model store."""


@dataclass(frozen=True)
class Part:
    """One supervised program.

    port_setting: the environment variable that moves it to another port
    ready: tells whether it answers
    grace_s: how long it may take to end when asked to
    log: where it writes a log of its own; None: what it prints is its log
    """

    name: str
    argv: tuple[str, ...]
    host: str
    port: int
    port_setting: str
    address: str
    ready: Probe
    environment: Mapping[str, str] = field(default_factory=dict)
    grace_s: float = 10.0
    log: Path | None = None


def python(*arguments: str) -> tuple[str, ...]:
    """This Python with arguments; -P, so that a folder named `services` where the user stands is not taken for ours."""
    return (sys.executable, "-P", *arguments)


def absolute(settings: Settings) -> Settings:
    """The same settings with paths that hold in every working folder."""
    changes: dict[str, object] = {"state_dir": settings.state_dir.expanduser().absolute()}
    if settings.shop is not None:
        changes["shop"] = settings.shop.expanduser().absolute()
    if settings.api_keys_file is not None:
        changes["api_keys_file"] = settings.api_keys_file.expanduser().absolute()
    if settings.model_store is not None and "://" not in settings.model_store:
        changes["model_store"] = str(Path(settings.model_store).expanduser().absolute())
    return settings.model_copy(update=changes)


def settings_environment(settings: Settings) -> dict[str, str]:
    """The settings as the environment that gives the same settings to a child."""
    values = {name: getattr(settings, name) for name in type(settings).model_fields if name != "api_key"}  # a caller's
    return {f"CASCADE_{name.upper()}": _as_text(value) for name, value in values.items() if value is not None}


def _as_text(value: object) -> str:
    """As the environment holds it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return json.dumps(value) if isinstance(value, dict) else str(value)


def build_command(settings: Settings) -> tuple[tuple[str, ...], dict[str, str]]:
    """The program that builds whatever is missing or stale, and its environment."""
    return python("-m", "orchestration.build"), {**settings_environment(settings), **PATIENT}


def redis_part(settings: Settings) -> Part:
    """The Redis that this run starts. Raises RedisNotFound where no server can be found."""
    from cascade.online.server import RedisServer

    server = RedisServer(settings.redis_dir, settings.redis_port, REDIS_HOST, settings.redis_appendfsync)
    server.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Part(
        name=REDIS,
        argv=tuple(server.command()),
        host=REDIS_HOST,
        port=settings.redis_port,
        port_setting="CASCADE_REDIS_PORT",
        address=server.url,
        ready=redis_probe(server.url),
        grace_s=15.0,
        log=server.log_file,
    )


def redis_address(url: str) -> str:
    """A Redis URL without its password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}"


def _shared_environment(settings: Settings) -> dict[str, str]:
    # One thread a process: the services share the machine's cores among themselves.
    return {**settings_environment(settings), **PATIENT, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def service_parts(settings: Settings, token: str | None = None) -> list[Part]:
    """Retrieval, filter, ranker and the gateway, a process each.

    token: what they ask of their callers; None: nothing, and they have no endpoint that refreshes
    """
    return [_service(settings, name, token) for name in (*MODEL_SERVICES, GATEWAY)]


def one_process_part(settings: Settings, token: str | None = None) -> Part:
    """The gateway with the other three inside it."""
    environment = dict(_shared_environment(settings))
    for name in (*MODEL_SERVICES, GATEWAY):
        environment |= _service_environment(settings, name, token)
    return _http_part(
        settings, GATEWAY, python("-m", "services.one_process"), environment, settings.gateway_port, "/readyz"
    )


def features_part(settings: Settings, token: str | None = None) -> Part:
    """The features worker: a process of its own in either form of the run."""
    return _service(settings, FEATURES, token)


def dagster_part(settings: Settings) -> Part:
    """Dagster's page, daemon and code server."""
    command = python(
        "-m", "dagster", "dev", "-m", "orchestration.definitions",
        "-h", settings.host, "-p", str(settings.dagster_port),
    )  # fmt: skip
    environment = {
        **settings_environment(settings),
        **PATIENT,
        "DAGSTER_HOME": str(settings.dagster_home),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return _http_part(settings, DAGSTER, command, environment, settings.dagster_port, "/server_info")


def _service(settings: Settings, name: str, token: str | None) -> Part:
    environment = {**_shared_environment(settings), **_service_environment(settings, name, token)}
    port = getattr(settings, f"{name}_port")
    return _http_part(settings, name, python("-m", f"services.{name}"), environment, port, "/readyz")


def _service_environment(settings: Settings, name: str, token: str | None) -> dict[str, str]:
    values = {
        "HOST": settings.host,
        "PORT": str(getattr(settings, f"{name}_port")),
        "REDIS_URL": settings.redis(),
        "MODEL_STORE": settings.model_store_url,
    }
    if token is not None:
        values["INTERNAL_TOKEN"] = token
    if settings.tracing_endpoint is not None:
        values |= {"TRACING_ENDPOINT": settings.tracing_endpoint, "TRACING_SAMPLE": str(settings.tracing_sample)}
    if name == GATEWAY:
        values |= {
            "RETRIEVAL_URL": http_url(settings.host, settings.retrieval_port),
            "FILTER_URL": http_url(settings.host, settings.filter_port),
            "RANKER_URL": http_url(settings.host, settings.ranker_port),
            "FEAST_REGISTRY": str(settings.feast_dir / "registry.db"),
            "IMAGES_DIR": str(settings.dataset_dir / "images"),
            "API_KEYS_FILE": str(settings.keys_file),
            "STOREFRONT": "true",
        }
    if name == FEATURES:
        values |= {
            "DATASET": str(settings.dataset_dir),
            "ARTIFACTS": str(settings.artifacts_dir),
            "FEAST_REGISTRY": str(settings.feast_dir / "registry.db"),
            "EVENT_WEIGHTS": json.dumps(settings.event_weights),
        }
    return {f"CASCADE_{name.upper()}_{key}": value for key, value in values.items()}


def _http_part(
    settings: Settings,
    name: str,
    argv: tuple[str, ...],
    environment: Mapping[str, str],
    port: int,
    ready_path: str,
) -> Part:
    url = http_url(settings.host, port)
    return Part(
        name=name,
        argv=argv,
        host=settings.host,
        port=port,
        port_setting=f"CASCADE_{name.upper()}_PORT",
        address=url,
        ready=http_probe(url + ready_path),
        environment=environment,
    )
