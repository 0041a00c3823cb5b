"""A real browser for the tests, and the rules every page is held to."""

from __future__ import annotations

import importlib.util
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


def serious(page: Any) -> list[str]:
    """What axe-core finds that keeps somebody out; nothing where its package is not installed."""
    if importlib.util.find_spec("axe_playwright_python") is None:
        return []
    from axe_playwright_python.sync_playwright import Axe

    told = Axe().run(page).response
    assert len(told["passes"]) > 10
    return [f"{one['id']}: {one['help']}" for one in told["violations"] if one["impact"] in ("serious", "critical")]


def keep_picture(page: Any, name: str, *, of: str | None = None, whole: bool = False) -> None:
    """A picture among the artefacts, once messages are gone and every picture in it is there.

    of: selector of the part that is kept; none: what the window shows, or the `whole` page
    """
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_function("() => !document.querySelector('#toasts').children.length")
    # Pictures further down come when they are near.
    page.eval_on_selector_all("img[loading=lazy]", "all => all.forEach((one) => { one.loading = 'eager'; })")
    page.wait_for_function("() => [...document.images].every((one) => one.complete)")
    path = ARTIFACTS / f"{name}.png"
    if of is None:
        page.screenshot(path=path, full_page=whole, animations="disabled")
    else:
        page.locator(of).screenshot(path=path, animations="disabled")
