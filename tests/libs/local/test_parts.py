"""Programs, environments and addresses of a run."""

from pathlib import Path

import pytest

from cascade.local import system
from cascade.local.parts import (
    absolute,
    dagster_part,
    features_part,
    one_process_part,
    redis_address,
    redis_part,
    service_parts,
    settings_environment,
)
from cascade.local.probes import http_url, reachable_host
from cascade.local.system import Options, plan
from cascade.settings import Settings
from services.features.settings import FeaturesSettings
from services.filter.settings import FilterSettings
from services.gateway.settings import GatewaySettings
from services.ranker.settings import RankerSettings
from services.retrieval.settings import RetrievalSettings


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return absolute(Settings(state_dir=Path("state"), gateway_port=9000, ranker_port=9003, redis_port=9006))


def test_paths_hold_in_every_folder(settings, tmp_path):
    own = absolute(Settings(state_dir=Path("s"), shop=Path("shop"), model_store="models"))
    assert (own.state_dir, own.shop, own.model_store) == (tmp_path / "s", tmp_path / "shop", str(tmp_path / "models"))
    assert absolute(Settings(model_store="s3://bucket/models")).model_store == "s3://bucket/models"


def test_a_child_reads_the_same_settings(settings, monkeypatch):
    full = settings.model_copy(update={"shop": Path("/data/shop"), "dlrm_epochs": 3, "event_weights": {"view": -2}})
    for name, value in settings_environment(full).items():
        monkeypatch.setenv(name, value)
    assert Settings() == full


def test_a_secret_reaches_the_child_whole(tmp_path):
    settings = Settings(redis_url="redis://:secret@host:1/2")
    assert settings_environment(settings)["CASCADE_REDIS_URL"] == "redis://:secret@host:1/2"
    assert redis_address(settings.redis()) == "redis://host:1/2"


@pytest.mark.parametrize("endpoint", [None, "http://collector:4318"])
def test_services_trace_where_the_run_does(settings, monkeypatch, endpoint):
    traced = settings.model_copy(update={"tracing_endpoint": endpoint, "tracing_sample": 0.25})
    for part in [*service_parts(traced), features_part(traced), one_process_part(traced)]:
        for name, value in part.environment.items():
            monkeypatch.setenv(name, value)
    for own in (GatewaySettings(), RetrievalSettings(), FilterSettings(), RankerSettings(), FeaturesSettings()):
        assert own.tracing_endpoint == endpoint
        assert own.tracing_sample == (1.0 if endpoint is None else 0.25)


def test_services_read_what_they_are_given(settings, monkeypatch):
    parts = {part.name: part for part in service_parts(settings)}
    assert list(parts) == ["retrieval", "filter", "ranker", "gateway"]
    for part in parts.values():
        for name, value in part.environment.items():
            monkeypatch.setenv(name, value)
    gateway, ranker = GatewaySettings(), RankerSettings()
    assert (gateway.port, ranker.port) == (9000, 9003)
    assert (RetrievalSettings().port, FilterSettings().port) == (8001, 8002)
    assert gateway.ranker_url == parts["ranker"].address == "http://127.0.0.1:9003"
    assert gateway.redis_url == FilterSettings().redis_url
    assert gateway.redis_url.get_secret_value() == "redis://127.0.0.1:9006/0"
    assert gateway.model_store == ranker.model_store == str(settings.state_dir / "models")
    assert gateway.feast_registry == settings.feast_dir / "registry.db"
    assert gateway.images_dir == settings.dataset_dir / "images"
    assert parts["ranker"].port_setting == "CASCADE_RANKER_PORT"
    assert parts["ranker"].environment["OMP_NUM_THREADS"] == "1"


def test_the_worker_reads_what_it_is_given(settings, monkeypatch):
    settings = settings.model_copy(update={"features_port": 9004, "event_weights": {"click": 2}})
    part = features_part(settings)
    for name, value in part.environment.items():
        monkeypatch.setenv(name, value)
    worker = FeaturesSettings()
    assert (worker.port, worker.event_weights) == (9004, {"click": 2})
    assert worker.dataset == settings.dataset_dir
    assert worker.feast_registry == settings.feast_dir / "registry.db"
    assert worker.redis_url.get_secret_value() == settings.redis()
    assert part.ready is not None
    assert part.port_setting == "CASCADE_FEATURES_PORT"
    for options in (system.Options(), system.Options(one_process=True, dagster=False)):
        assert "features" in [part.name for part in system.plan(settings, options).after]


def test_every_service_gets_the_token_and_in_no_argument(settings, monkeypatch):
    token = "a-token-of-some-length"
    parts = service_parts(settings, token)
    with_it = [part.name for part in parts if token in part.environment.values()]
    assert with_it == ["retrieval", "filter", "ranker", "gateway"]
    assert features_part(settings, token).environment["CASCADE_FEATURES_INTERNAL_TOKEN"] == token
    assert not any("INTERNAL_TOKEN" in name for part in service_parts(settings) for name in part.environment)
    for part in (*parts, one_process_part(settings, token)):
        assert not any(token in argument for argument in part.argv)
        for name, value in part.environment.items():
            monkeypatch.setenv(name, value)
        for read in (RetrievalSettings, RankerSettings, GatewaySettings):
            found = read().internal_token
            assert found is None or found.get_secret_value() == token
    assert GatewaySettings().internal_token.get_secret_value() == token


def test_each_run_has_a_token_of_its_own(settings):
    def tokens(one_process):
        found = plan(settings, Options(one_process=one_process, dagster=False))
        return {value for part in found.after for name, value in part.environment.items() if name.endswith("_TOKEN")}

    (first,), (second,), (third,) = tokens(False), tokens(False), tokens(True)
    assert len({first, second, third}) == 3
    assert len(first) >= 32


def test_one_process_has_every_services_environment(settings):
    apart = {name for part in service_parts(settings) for name in part.environment}
    assert set(one_process_part(settings).environment) == apart
    assert one_process_part(settings).port == 9000


def test_dagster_and_redis(settings):
    dagster = dagster_part(settings)
    assert dagster.environment["DAGSTER_HOME"] == str(settings.state_dir / "dagster")
    assert dagster.argv[-1] == "3000"
    redis = redis_part(settings)
    assert redis.address == "redis://127.0.0.1:9006/0"
    assert redis.log.parent == settings.redis_dir
    assert redis.argv[redis.argv.index("--appendfsync") + 1] == "always"
    relaxed = redis_part(settings.model_copy(update={"redis_appendfsync": "everysec"}))
    assert relaxed.argv[relaxed.argv.index("--appendfsync") + 1] == "everysec"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),  # noqa: S104
        ("::", "http://[::1]:80"),
        ("shop.local", "http://shop.local:80"),
    ],
)
def test_addresses(host, url):
    assert http_url(host, 80) == url
    assert reachable_host(host) in url
