"""The settings page lists every setting with its default, and nothing that is none."""

from __future__ import annotations

import re
from pathlib import Path

from cascade.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_page_lists_every_project_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `CASCADE_(\w+)` \| (.*?) \|", PAGE.read_text(), flags=re.MULTILINE))

    fields = Settings.model_fields
    expected = {
        name.upper(): "none" if field.default is None else f"`{field.default}`" for name, field in fields.items()
    }

    assert rows == expected


def test_every_setting_says_what_it_does() -> None:
    missing = [name for name, field in Settings.model_fields.items() if not field.description]

    assert missing == []
