"""Feast's definitions follow the feature list, and its file says what the services build from settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.online.feast_config import import_feast

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]


@pytest.fixture(autouse=True, scope="module")
def feast_imported_as_the_services_do() -> None:
    import_feast()


REPO = Path(__file__).parents[2] / "feature_repo"


def test_file_and_settings_configure_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from feast.repo_config import load_repo_config

    from cascade.online.feast_config import connection_string, feature_store

    registry = tmp_path / "registry.db"
    monkeypatch.setenv("CASCADE_FEAST_REGISTRY", str(registry))
    monkeypatch.setenv("CASCADE_FEAST_REDIS", connection_string("redis://127.0.0.1:8379/0"))

    from_file = load_repo_config(REPO, REPO / "feature_store.yaml")
    from_code = feature_store(registry, "redis://127.0.0.1:8379/0").config

    same = ("project", "provider", "entity_key_serialization_version")
    assert {name: getattr(from_file, name) for name in same} == {name: getattr(from_code, name) for name in same}
    assert from_file.online_store == from_code.online_store
    assert from_file.offline_store == from_code.offline_store


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://127.0.0.1:8379/0", "127.0.0.1:8379,db=0"),
        ("redis://cache", "cache:6379,db=0"),
        ("rediss://user:p%40ss@cache:1/2", "cache:1,db=2,ssl=true,username=user,password=p@ss"),
    ],
)
def test_connection_string(url: str, expected: str) -> None:
    from cascade.online.feast_config import connection_string

    assert connection_string(url) == expected


def test_foreign_url_is_refused_without_its_password() -> None:
    from cascade.online.errors import OnlineError
    from cascade.online.feast_config import connection_string

    with pytest.raises(OnlineError, match="'http'") as refused:
        connection_string("http://user:secret@cache")
    assert "secret" not in str(refused.value)


def test_views_hold_the_online_features_the_gateway_reads() -> None:
    from cascade.online.feast_config import ONLINE_FEATURES
    from feature_repo import definitions

    declared = {
        f"{view.name}:{field.name}"
        for view in (definitions.user_profile, definitions.user_activity)
        for field in view.schema
        if field.name != definitions.user.join_key
    }

    assert set(ONLINE_FEATURES) == declared


def test_feast_leaves_this_process_its_metrics() -> None:
    code = (
        "import os; from cascade.online.feast_config import import_feast; import_feast();"
        "from prometheus_client import values;"
        "print([name for name in os.environ if name.startswith('PROMETHEUS_')], values.ValueClass.__name__)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PROMETHEUS_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["[]", "MutexValue"]
