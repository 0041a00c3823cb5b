from __future__ import annotations

from pathlib import Path

from cascade.serving.settings import settings_table
from services import ranker
from services.ranker.settings import RankerSettings

README = Path(ranker.__file__).with_name("README.md")


def test_the_readme_documents_every_setting() -> None:
    assert settings_table(RankerSettings) in README.read_text()


def test_settings_have_the_prefix_of_this_service() -> None:
    assert RankerSettings.model_config["env_prefix"] == "CASCADE_RANKER_"
