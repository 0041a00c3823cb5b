"""How Cascade configures Feast: DuckDB offline, Redis online, a file registry.

`feature_repo/feature_store.yaml` says the same for Feast's own command line; a test holds the two together.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from cascade.online.errors import OnlineError

if TYPE_CHECKING:
    from feast import FeatureStore

_MULTIPROCESS = ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR")

PROJECT = "cascade"
ENTITY = "user_id"
PROFILE_VIEW = "user_profile"
ACTIVITY_VIEW = "user_activity"
ACTIVITY_PUSH_SOURCE = "user_activity_push"
ONLINE_FEATURES = (f"{PROFILE_VIEW}:age", f"{PROFILE_VIEW}:gender", f"{ACTIVITY_VIEW}:top_category")


def connection_string(redis_url: str, timeout_s: float | None = None) -> str:
    """Feast's `host:port,key=value` form of a Redis URL.

    Args:
        redis_url: redis://[user:password@]host[:port][/db] or rediss:// for TLS
        timeout_s: for requests of visitors: seconds for a connect or an answer, and no second try, since redis-py
            by itself tries four times with pauses; None waits for ever
    """
    url = urlsplit(redis_url)
    if url.scheme not in ("redis", "rediss") or not url.hostname:
        # the value may hold a password, so only its scheme is named
        raise OnlineError(f"a Redis URL of scheme {url.scheme!r} is not usable; use redis://host:port/db or rediss://…")
    parts = [f"{url.hostname}:{url.port or 6379}", f"db={url.path.strip('/') or 0}"]
    if url.scheme == "rediss":
        parts.append("ssl=true")
    if url.username:
        parts.append(f"username={unquote(url.username)}")
    if url.password:
        parts.append(f"password={unquote(url.password)}")
    if timeout_s is not None:
        parts += [f"socket_timeout={timeout_s}", f"socket_connect_timeout={timeout_s}", "retry=null"]
    return ",".join(parts)


def feature_store(registry: Path, redis_url: str, timeout_s: float | None = None) -> FeatureStore:
    """A Feast store over this registry file and Redis."""
    import_feast()
    from feast import FeatureStore, RepoConfig

    config = RepoConfig(
        project=PROJECT,
        provider="local",
        registry=str(registry),
        online_store={"type": "redis", "connection_string": connection_string(redis_url, timeout_s)},
        offline_store={"type": "duckdb"},
        entity_key_serialization_version=3,
    )
    return FeatureStore(config=config)


def import_feast() -> None:
    """Import Feast without what it does to the process: it puts prometheus_client into multi-process mode.

    In that mode metrics live in files and series cannot be removed, here and in every child that inherits the
    environment. Imported first, prometheus_client keeps metrics in memory; the variables go again.
    """
    import prometheus_client  # noqa: F401

    before = {name: os.environ.get(name) for name in _MULTIPROCESS}
    os.environ.setdefault("FEAST_USAGE", "False")
    import feast  # noqa: F401

    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
