"""A real browser for the tests, and the rules every page is held to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

ARTIFACTS = Path(__file__).parents[2] / "artifacts" / "screenshots"
"""Where pictures of the pages are kept; git ignores it."""

NAMES = ("chromium", "chromium-browser", "google-chrome")

WAYS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "device_scale_factor": 2},
}
"""How a page is looked at."""

_FAULTS = Path(__file__).with_name("faults.js")


def browser_path() -> str | None:
    """A Chromium of this machine."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def faults_of(page: Any) -> list[str]:
    """What is wrong with a page as it stands, in sentences."""
    found: list[str] = page.evaluate(_FAULTS.read_text())
    return found


def keep_picture(page: Any, name: str, *, whole: bool = False) -> None:
    """A picture of the page among the artefacts."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=whole, animations="disabled")
