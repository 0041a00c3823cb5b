from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from cascade.serving.settings import BatchSettings, BundleSettings, RedisSettings, ServiceSettings, settings_table


class Everything(ServiceSettings, RedisSettings, BundleSettings, BatchSettings):
    model_config = SettingsConfigDict(env_prefix="CASCADE_TEST_", extra="ignore", frozen=True)


def test_every_field_has_a_default_and_a_description() -> None:
    for name, field in Everything.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name


def test_the_environment_is_read_with_the_services_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADE_TEST_PORT", "1234")
    monkeypatch.setenv("CASCADE_TEST_REDIS_URL", "redis://user:secret@host/0")
    settings = Everything()
    assert settings.port == 1234
    assert settings.redis_url.get_secret_value() == "redis://user:secret@host/0"
    assert "secret@" not in repr(settings)


@pytest.mark.parametrize(("name", "value"), [("PORT", "0"), ("LOG_LEVEL", "loud"), ("QUEUE_BOUND", "0")])
def test_impossible_values_stop_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"CASCADE_TEST_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Everything()


def test_the_table_names_variable_default_and_meaning() -> None:
    table = settings_table(Everything)
    assert "| `CASCADE_TEST_PORT` | `8000` | port to listen on |" in table
    assert len(table.splitlines()) == 2 + len(Everything.model_fields)


def test_secrets_given_are_not_printed() -> None:
    class Own(Everything):
        redis_url: SecretStr = SecretStr("redis://x/1")

    assert Own(redis_url=SecretStr("redis://u:p@h/0")).model_dump_json().count("u:p") == 0
