"""The tour of the storefront in a real browser, against real services; pictures of it are kept.

Accessibility is held twice: axe-core where its package is installed, and the rules of `browser.py` always.
"""

from __future__ import annotations

import importlib.util
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from typing import Any

import pytest

from cascade.store import ModelStore
from cascade.store import canary as canaries
from cascade.store.artifacts import GatewayArtifacts
from cascade.store.errors import VersionInUse
from tests.e2e.browser import ARTIFACTS, WAYS, browser_path, faults_of, keep_picture, serious
from tests.e2e.candidates import write_another

pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[dev]'")
pytestmark = [
    pytest.mark.skipif(browser_path() is None, reason="no Chromium on the PATH: apt-get install chromium"),
    pytest.mark.timeout(600),
]

PATIENCE_MS = 60_000
Open = Callable[..., Any]
_SHOWS = "id => [...document.querySelectorAll('#for-you article')].some((one) => one.dataset.item === id)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for the module; every test has a fresh profile in it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any, system: Any) -> Iterator[Open]:
    """Opens a path; afterwards no page may have met an error or have asked another host."""
    contexts: list[Any] = []
    wrong: list[str] = []
    base = str(system.http.base_url).rstrip("/")

    def opened(path: str, way: str = "light") -> Any:
        context = browser.new_context(**WAYS[way])
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(f"{path}: {error}"))
        page.on(
            "console",
            lambda line: (
                wrong.append(f"{path}: {line.text}")
                if line.type == "error" and "Failed to load resource" not in line.text
                else None
            ),
        )
        page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith(base) else None)
        page.goto(base + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def open_shop(open_page: Open) -> Open:
    """Opens the shop for a visitor and waits for list and catalog."""

    def opened(user_id: str, way: str = "light", **fields: Any) -> Any:
        query = "&".join(f"{name}={value}" for name, value in {"user": user_id, **fields}.items())
        page = open_page(f"/?{query}", way)
        page.wait_for_selector("#for-you article")
        page.wait_for_selector("#catalog article")
        page.wait_for_selector("#visitor-id")
        return page

    return opened


def shown(page: Any) -> list[str]:
    """Item ids of the carousel."""
    found: list[str] = page.eval_on_selector_all("#for-you article", "all => all.map((one) => one.dataset.item)")
    return found


def until(page: Any, expression: str, argument: Any = None) -> None:
    page.wait_for_function(expression, arg=argument)


def gone(page: Any, item_id: str) -> None:
    """Wait until the carousel has been drawn without an item."""
    until(page, f"id => document.querySelector('#for-you article') && !({_SHOWS})(id)", item_id)


def there(page: Any, item_id: str) -> None:
    """Wait until the carousel has an item."""
    until(page, _SHOWS, item_id)


def another_list(page: Any, act: Callable[[], None]) -> list[str]:
    """The list that an act on the page makes the gateway answer with."""
    with page.expect_response("**/v1/recommendations") as answer:
        act()
    ids = [item["item_id"] for item in answer.value.json()["items"]]
    until(
        page,
        "ids => JSON.stringify([...document.querySelectorAll('#for-you article')].map((one) => one.dataset.item)) "
        "=== JSON.stringify(ids)",
        ids,
    )
    return ids


def test_the_list_is_the_gateways(open_shop: Open, system: Any, known_user: str) -> None:
    page = open_shop(known_user, when="chosen", weekday=0, hour=8)
    assert len(shown(page)) == 10
    card = page.locator("#for-you article").first
    for label in ("Interested", "Add to cart", "Not interested", "Similar", "Why?"):
        assert card.get_by_role("button", name=label).count() >= 1
    assert page.title() == "Shop · Cascade"
    assert re.fullmatch(r"10 items in .* ms", page.locator("#for-you-facts").inner_text())
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    (ARTIFACTS / "paint.json").write_text(json.dumps({"first_contentful_paint_ms": paint}))
    print(f"first contentful paint after {paint:.0f} ms")


def test_context_length_and_diversity_change_the_list_at_once(open_shop: Open) -> None:
    page = open_shop("nobody-knows-me", when="chosen", weekday=0, hour=8, device="mobile")
    lists = {tuple(shown(page))}
    lists.add(tuple(another_list(page, lambda: page.check("input[name=device][value=desktop]"))))
    lists.add(tuple(another_list(page, lambda: page.fill("#context-hour", "22"))))
    lists.add(tuple(another_list(page, lambda: page.select_option("#context-weekday", "5"))))
    assert len(lists) > 1, "neither device nor time changed anything"

    assert len(another_list(page, lambda: page.fill("#context-k", "4"))) == 4
    top = shown(page)
    drawn = another_list(page, lambda: page.check("#context-diversity"))
    hot = another_list(page, lambda: page.fill("#context-temperature", "5"))
    again = another_list(page, lambda: page.click("#context-again"))
    assert len({tuple(top), tuple(drawn), tuple(hot), tuple(again)}) > 1
    # The address holds all of it: the same page comes back.
    address = page.url
    assert "diversity=true" in address
    page.reload()
    page.wait_for_selector("#for-you article")
    assert shown(page) == again


def test_visitors_are_found_drawn_and_made(open_shop: Open, known_user: str) -> None:
    page = open_shop("nobody-knows-me")
    page.fill("#visitor-query", known_user[:8])
    page.locator("#visitor-found button", has_text=known_user).click()
    until(page, "id => document.querySelector('#visitor-id')?.textContent === id", known_user)
    page.click("#visitor-random")
    until(page, "id => document.querySelector('#visitor-id')?.textContent !== id", known_user)
    page.click("#visitor-new")
    until(page, "() => document.querySelector('#visitor-id')?.textContent.startsWith('new-')")
    assert "a stranger" in page.locator("#visitor-card").inner_text()
    page.fill("#visitor-query", "no such visitor at all")
    page.get_by_text("No visitor has this in the id").wait_for()


@pytest.mark.parametrize("way", WAYS)
def test_a_click_changes_the_list_and_the_page_shows_how(open_shop: Open, way: str) -> None:
    page = open_shop(f"clicker-{uuid.uuid4().hex[:8]}", way)
    before = shown(page)
    chosen = page.locator("#for-you article").nth(1)
    chosen.locator("button[data-event=click]").click()
    page.wait_for_selector("#change .compare")
    until(
        page,
        "id => ![...document.querySelectorAll('#for-you article')].some((one) => one.dataset.item === id)",
        before[1],
    )
    # The features worker makes the item's category the visitor's top one, and the page is told.
    until(page, "() => document.querySelector('#visitor-top')?.textContent.startsWith('top category: ')")
    until(page, "() => /none → /.test(document.querySelector('#change').textContent)")
    text = page.locator("#change").inner_text()
    assert re.search(r"[1-9]\d* items? left, [1-9]\d* items? came", text)
    assert re.search(r"From click to new list\s+\d", text)
    columns = page.locator("#change ol")
    assert columns.nth(0).locator("li").count() == columns.nth(1).locator("li").count() == 10
    assert columns.nth(0).locator("li.left").count() == columns.nth(1).locator("li.came").count() > 0
    assert faults_of(page) == []
    keep_picture(page, f"change-{way}", of="#change")


def test_what_is_done_elsewhere_is_seen_too(open_shop: Open, system: Any) -> None:
    user = f"elsewhere-{uuid.uuid4().hex[:8]}"
    page = open_shop(user)
    first = shown(page)[0]
    answer = system.http.post("/v1/interactions", json={"user_id": user, "item_id": first, "event_type": "view"})
    assert answer.status_code == 202
    until(
        page, "id => ![...document.querySelectorAll('#for-you article')].some((one) => one.dataset.item === id)", first
    )
    assert "something done elsewhere" in page.locator("#change-title").inner_text()


def test_history_is_reset_and_the_user_forgotten(open_shop: Open) -> None:
    page = open_shop(f"forgetful-{uuid.uuid4().hex[:8]}")
    first = shown(page)[0]
    page.locator("#for-you article button[data-event=not_interested]").first.click()
    until(
        page, "id => ![...document.querySelectorAll('#for-you article')].some((one) => one.dataset.item === id)", first
    )
    page.locator("#visitor-card li").first.wait_for()
    page.click("#visitor-reset")
    until(
        page, "id => [...document.querySelectorAll('#for-you article')].some((one) => one.dataset.item === id)", first
    )
    page.locator("#for-you article button[data-event=add_to_cart]").first.click()
    until(page, "() => document.querySelector('#visitor-top')?.textContent.startsWith('top category: ')")
    page.click("#visitor-forget")
    page.get_by_role("button", name="Forget", exact=True).click()
    until(page, "() => document.querySelector('#visitor-top')?.textContent === 'no top category'")
    assert "a stranger" in page.locator("#visitor-card").inner_text()


def test_the_catalog_is_browsed_searched_and_turned(open_shop: Open, system: Any) -> None:
    page = open_shop("browser")
    total = system.http.get("/v1/items").json()["total"]
    until(page, "text => document.querySelector('#catalog-page').textContent === text", f"1 to 24 of {total:,}")
    first = page.locator("#catalog article").first.get_attribute("data-item")
    page.click("#catalog-on")
    until(page, "() => document.querySelector('#catalog-page').textContent.startsWith('25 to ')")
    page.click("#catalog-back")
    until(page, "id => document.querySelector('#catalog article').dataset.item === id", first)

    facets = system.http.get("/v1/facets").json()
    category = facets["categories"][0]
    page.select_option("#filter-l1", category["name"])
    until(page, "text => document.querySelector('#catalog-facts').textContent === text", _items(category["items"]))
    kind = category["children"][0]
    page.select_option("#filter-l2", kind["name"])
    until(page, "text => document.querySelector('#catalog-facts').textContent === text", _items(kind["items"]))
    page.fill("#filter-min_price", "100000")
    page.get_by_text("No item matches").wait_for()
    page.fill("#filter-min_price", "")
    page.select_option("#filter-l1", "")
    title = page.locator("#catalog article h3").first.inner_text()
    page.fill("#filter-q", title)
    until(page, "title => document.querySelector('#catalog h3')?.textContent === title", title)

    page.locator("#catalog article").first.get_by_role("button", name="Similar").click()
    page.wait_for_selector("dialog[open] article")
    assert page.locator("dialog article").count() == 12
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


@pytest.mark.parametrize("way", WAYS)
def test_the_trace_sums_to_the_list(open_shop: Open, way: str, known_user: str) -> None:
    page = open_shop(known_user, way, when="chosen", weekday=2, hour=20)
    with page.expect_response("**/v1/recommendations") as response:
        page.click("#trace-toggle")
    answer = response.value.json()
    page.wait_for_selector("#trace .funnel")
    funnel = answer["explanation"]["funnel"]
    rows = page.locator("#trace tbody tr")
    assert rows.count() == funnel["retrieved"] > 0
    for outcome in ("shown", "below", "met"):
        assert page.locator(f"#trace tr[data-outcome={outcome}]").count() == funnel[outcome]
    assert funnel["shown"] == len(answer["items"]) == page.locator("#for-you article").count()
    assert f"{funnel['retrieved']} candidates" in page.locator("[data-stage=retrieval]").inner_text()
    assert answer["versions"]["ranker"]["version"] in page.locator("[data-stage=ranker]").inner_text()
    assert page.locator("#trace .scatter circle.dot-shown").count() == funnel["shown"]
    assert faults_of(page) == []
    keep_picture(page, f"trace-{way}", of="#trace")


@pytest.mark.parametrize("way", WAYS)
def test_why_an_item_is_here_or_not(open_shop: Open, way: str, system: Any) -> None:
    user = f"curious-{uuid.uuid4().hex[:8]}"
    page = open_shop(user, way)
    liked = shown(page)[0]
    page.locator("#for-you article button[data-event=click]").first.click()
    until(
        page, "id => ![...document.querySelectorAll('#for-you article')].some((one) => one.dataset.item === id)", liked
    )
    page.locator("#for-you article").first.get_by_role("button", name="Why?").click()
    page.wait_for_selector("dialog .parts")
    assert page.locator("#dialog-title").inner_text() == "Why is this here?"
    assert page.locator("#why-decision").inner_text() == "in the list"
    assert page.locator(".parts li").count() == 5
    page.locator(".liked li").first.wait_for()
    assert faults_of(page) == []
    keep_picture(page, f"why-{way}")
    page.keyboard.press("Escape")

    page.click("#trace-toggle")
    page.wait_for_selector("#why-id")
    page.fill("#why-id", liked)
    page.keyboard.press("Enter")
    page.wait_for_selector("#why-decision")
    assert page.locator("#dialog-title").inner_text() == "Why is this not here?"
    assert page.locator("#why-decision").inner_text() == "met before"
    page.keyboard.press("Escape")
    page.fill("#why-id", "no such item")
    page.keyboard.press("Enter")
    page.locator("dialog [role=alert]", has_text="no item of the catalog has this id").wait_for()


def test_a_degraded_list_says_so(open_shop: Open, system: Any) -> None:
    system.cascade("stop", "ranker")
    try:
        page = open_shop("unlucky")
        notice = page.locator("#for-you-notice [role=alert]")
        notice.wait_for()
        assert "Degraded: made without the ranker" in notice.inner_text()
        assert "no score" in page.locator("#for-you article").first.inner_text()
        keep_picture(page, "degraded")
    finally:
        system.cascade("start", "ranker")
        deadline = time.monotonic() + 120  # the gateway asks a replica that failed again after a while
        while system.recommend("unlucky")["degraded"]:
            assert time.monotonic() < deadline, "the ranker is up and not asked"
            time.sleep(0.2)


def test_errors_are_sentences(open_shop: Open, open_page: Open) -> None:
    page = open_shop("somebody")
    page.route("**/v1/interactions", lambda route: route.abort())
    page.locator("#for-you article button[data-event=click]").first.click()
    page.locator("#toasts", has_text="The gateway does not answer. Is it running?").wait_for()
    problem = {"title": "Not available now", "detail": "The filter service gave no answer; try again."}
    page.route(
        "**/v1/recommendations",
        lambda route: route.fulfill(status=503, content_type="application/problem+json", body=json.dumps(problem)),
    )
    page.check("input[name=device][value=mobile]")
    page.locator("#for-you-notice [role=alert]", has_text="The filter service gave no answer; try again.").wait_for()
    assert page.locator("#for-you article").count() == 0


def test_with_the_keyboard_alone(open_shop: Open) -> None:
    page = open_shop(f"typist-{uuid.uuid4().hex[:8]}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the shop"
    order: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        if page.evaluate("document.activeElement.dataset.event") == "click":
            break
    for earlier, later in [
        ("visitor-query", "visitor-random"),
        ("visitor-random", "context-k"),
        ("context-k", "for-you"),
    ]:
        assert order.index(earlier) < order.index(later), order
    first = shown(page)[0]
    page.keyboard.press("Enter")
    until(
        page, "id => ![...document.querySelectorAll('#for-you article')].some((one) => one.dataset.item === id)", first
    )
    why = page.locator("#for-you article").first.get_by_role("button", name="Why?")
    why.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] .parts")
    assert page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent").startswith("Why?")


@pytest.mark.parametrize("way", WAYS)
def test_the_shop_as_a_whole(open_shop: Open, way: str, known_user: str) -> None:
    page = open_shop(known_user, way)
    until(page, "() => [...document.querySelectorAll('#for-you img')].slice(0, 4).every((one) => one.complete)")
    assert faults_of(page) == []
    keep_picture(page, f"shop-{way}")
    keep_picture(page, f"shop-whole-{way}", whole=True)


@pytest.mark.parametrize("way", WAYS)
def test_live_figures_arrive(open_page: Open, way: str, system: Any) -> None:
    page = open_page("/storefront/live", way)
    page.wait_for_selector("#plots .plot")
    drawn = "() => document.querySelectorAll('#plots svg.lines').length >= 5"
    deadline = time.monotonic() + 60
    while not page.evaluate(drawn):  # a plot shows what came since the look before: lists have to come meanwhile
        assert time.monotonic() < deadline, page.locator("#plots").inner_text()
        system.recommend("somebody-live")
        page.wait_for_timeout(100)
    until(page, "() => /\\d ms/.test(document.querySelectorAll('#plots h3')[1].textContent)")
    assert page.locator("#plots .plot").count() == 7
    page.get_by_text("−4 s").first.wait_for()  # a line, not a point
    assert faults_of(page) == []
    keep_picture(page, f"live-{way}", whole=True)


@pytest.mark.parametrize("way", WAYS)
def test_models_are_listed(open_page: Open, way: str, system: Any) -> None:
    page = open_page("/storefront/models", way)
    page.wait_for_selector("#models table")
    stable = ModelStore(system.settings.model_store_url).alias("ranker", "stable")
    row = page.locator(f"[data-service=ranker] tr[data-version='{stable}']")
    assert "stable" in row.inner_text()
    assert faults_of(page) == []
    keep_picture(page, f"models-{way}", whole=True)


@pytest.fixture
def canary(system: Any) -> Iterator[str]:
    """A version of the ranker that half of the users get; ended and removed afterwards."""
    store = ModelStore(system.settings.model_store_url)
    version = write_another(store, "ranker")
    told = system.cascade("canary", "start", "ranker", version, "--no-judge")
    assert "50 % of the users" in told
    yield version
    canaries.abort(store, "ranker", "the test is over")
    with suppress(VersionInUse):  # a test before it may have had the same version promoted and rolled back
        store.remove("ranker", version)


@pytest.mark.parametrize("way", WAYS)
def test_a_canary_is_shown_until_it_is_taken_back(open_page: Open, way: str, system: Any, canary: str) -> None:
    page = open_page("/storefront/models", way)
    shown = page.locator("[data-service=ranker] [data-canary=running]")
    shown.wait_for()
    text = shown.inner_text()
    assert canary in text
    assert "50 %, step 1" in text
    assert re.search(r"Since\s+\d+ \w+ \d{4}", text)
    assert "none yet; nobody judges it" in text
    assert page.locator("[data-service=ranker] [data-canary] progress").get_attribute("value") == "50"
    assert page.locator("[data-service=ranker] [data-canary]").count() == 1
    assert faults_of(page) == []
    assert serious(page) == []
    keep_picture(page, f"canary-{way}", of="[data-service=ranker]")

    system.cascade("canary", "abort", "ranker", "--reason", "the pictures are wrong")
    page.reload()
    ended = page.locator("[data-service=ranker] [data-canary=aborted]")
    ended.wait_for()
    assert "Last canary" in ended.inner_text()
    assert "the pictures are wrong" in ended.inner_text()
    assert page.locator("[data-service=ranker] [data-canary] progress").count() == 0
    assert serious(page) == []
    keep_picture(page, f"canary-ended-{way}", of="[data-service=ranker]")


def test_a_version_is_promoted_and_rolled_back(open_page: Open, system: Any, admin_key: str) -> None:
    store = ModelStore(system.settings.model_store_url)
    stable, previous = store.alias("gateway", "stable"), store.alias("gateway", "previous")
    assert stable is not None
    artifacts = GatewayArtifacts.load(store.bundle("gateway", stable).path)
    newer = store.write("gateway", artifacts.save, training_days=[date(2026, 2, 1)], parent=stable).version
    try:
        page = open_page("/storefront/models")
        page.locator(f"[data-promote='{newer}']").click()
        page.locator("#toasts", has_text="This needs an API key with the scope admin").wait_for()
        assert store.alias("gateway", "stable") == stable
        page.fill("#admin-key", admin_key)
        page.locator(f"[data-promote='{newer}']").click()
        until(page, "v => document.querySelector(`tr[data-version='${v}']`)?.textContent.includes('stable')", newer)
        assert store.alias("gateway", "stable") == newer
        page.locator("[data-rollback=gateway]").click()
        until(page, "v => document.querySelector(`tr[data-version='${v}']`)?.textContent.includes('stable')", stable)
        assert store.alias("gateway", "stable") == stable
    finally:
        store.set_alias("gateway", "stable", stable)
        if previous is None:
            store.remove_alias("gateway", "previous")
        else:
            store.set_alias("gateway", "previous", previous)
        store.remove("gateway", newer)


@pytest.mark.skipif(
    importlib.util.find_spec("axe_playwright_python") is None,
    reason="axe-core is not installed (pip install -e '.[dev]'); the rules of browser.py are held all the same",
)
@pytest.mark.parametrize("way", WAYS)
def test_axe_finds_nothing_serious(open_shop: Open, open_page: Open, way: str) -> None:
    page = open_shop(f"axe-{uuid.uuid4().hex[:8]}", way)
    page.click("#trace-toggle")
    page.wait_for_selector("#trace .funnel")
    page.locator("#for-you article button[data-event=click]").first.click()
    page.wait_for_selector("#change .compare")
    assert serious(page) == []
    page.locator("#for-you article").first.get_by_role("button", name="Why?").click()
    page.wait_for_selector("dialog .parts")
    assert serious(page) == []
    for path, ready in (("/storefront/models", "table"), ("/storefront/live", "svg.lines")):
        page = open_page(path, way)
        page.wait_for_selector(ready)
        assert serious(page) == []


def _items(number: int) -> str:
    return f"{number:,} item{'' if number == 1 else 's'}"
