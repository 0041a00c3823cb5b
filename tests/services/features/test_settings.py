from __future__ import annotations

from pathlib import Path

import pytest

from cascade.serving.settings import settings_table
from services import features
from services.features.settings import FeaturesSettings
from services.features.worker import policy_of

README = Path(features.__file__).with_name("README.md")


def test_the_readme_documents_every_setting() -> None:
    assert settings_table(FeaturesSettings) in README.read_text()


def test_settings_have_the_prefix_of_this_service() -> None:
    assert FeaturesSettings.model_config["env_prefix"] == "CASCADE_FEATURES_"


def test_weights_are_read_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADE_FEATURES_EVENT_WEIGHTS", '{"click": 2}')
    monkeypatch.setenv("CASCADE_FEATURES_CYCLE_MS", "20")
    settings = FeaturesSettings()
    assert settings.event_weights == {"click": 2}
    assert policy_of(settings).cycle_s == 0.02
