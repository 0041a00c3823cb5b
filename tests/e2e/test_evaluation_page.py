"""The page of an evaluation in a real browser, as the command writes it of a built shop; pictures are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import ARTIFACTS, WAYS, browser_path, faults_of, serious

pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[dev]'")
pytestmark = [
    pytest.mark.skipif(browser_path() is None, reason="no Chromium on the PATH: apt-get install chromium"),
    pytest.mark.timeout(600),
]
PARTS = ("headline", "metrics", "curves", "slices", "ablations", "catalog")


@pytest.fixture(scope="module")
def written(system: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The page, and the report beside it."""
    folder = tmp_path_factory.mktemp("page")
    page, report = folder / "report.html", folder / "report.json"
    options = ("--rows", "300", "--draws", "50", "--ablations", "60", "--baselines", "light")
    told = system.cascade("evaluate", *options, "--out", str(report), "--html", str(page))
    assert f"Page written to {page}" in told
    return page, json.loads(report.read_text())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize("way", WAYS)
def test_the_page_is_whole(browser: Any, written: tuple[Path, dict[str, Any]], way: str) -> None:
    path, report = written
    context = browser.new_context(**WAYS[way])
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if line.type in ("error", "warning") else None)
    page.on("request", lambda request: wrong.append(request.url) if request.url[:5] not in ("file:", "data:") else None)
    page.goto(path.as_uri())
    for part in PARTS:
        assert page.locator(f"#{part}").is_visible()

    (cascade,) = (one for one in report["rows"] if (one["model"], one["slice"]) == ("two-tower + DLRM", "all"))
    assert f"{cascade['metrics']['ndcg@10']:.3f}" in page.locator("#headline .tiles").inner_text()
    assert report["versions"]["ranker"] in page.locator("#headline").inner_text()
    assert page.locator("#curves .line.s1").count() == 2 * 3  # in each plot and its legend
    slices = {one["slice"] for one in report["rows"]}
    assert page.locator("#slices .bar-rows").first.locator("li").count() == len(slices)

    # Keyboard: each step shows another item, with its title and its picture.
    page.focus("#step")
    first = page.locator("#item-title").inner_text()
    page.keyboard.press("End")
    assert page.locator("#item-title").inner_text() != first
    page.wait_for_function("document.querySelector('#item-picture').naturalWidth > 0")
    # Pointer: the item nearest to it.
    dot = page.locator("#map .dot").nth(5)
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    ring = page.locator("#ring")
    near = abs(float(ring.get_attribute("cx")) - float(dot.get_attribute("cx")))
    assert near < 0.05

    assert faults_of(page) == []
    assert serious(page) == []
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"evaluation-{way}.png", full_page=True, animations="disabled")
    page.eval_on_selector_all("details", "all => all.forEach((one) => { one.open = true; })")
    assert faults_of(page) == []
    assert serious(page) == []
    context.close()
    assert wrong == []
