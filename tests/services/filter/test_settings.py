from __future__ import annotations

from pathlib import Path

from cascade.serving.settings import settings_table
from services import filter
from services.filter.settings import FilterSettings

README = Path(filter.__file__).with_name("README.md")


def test_the_readme_documents_every_setting() -> None:
    assert settings_table(FilterSettings) in README.read_text()


def test_settings_have_the_prefix_of_this_service() -> None:
    assert FilterSettings.model_config["env_prefix"] == "CASCADE_FILTER_"
