"""The tour from its first chapter to its last, and what it leaves behind: nothing but what it says."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Literal, get_args

import httpx

from cascade.local.probes import http_url
from cascade.local.system import gateway_url
from cascade.settings import Settings
from cascade.store import ModelStore
from cascade.tour import dagster as dagster_page
from cascade.tour import shop as gateway
from cascade.tour.canary import CanaryChapter
from cascade.tour.dagster import Dagster
from cascade.tour.errors import DagsterSilent, GatewaySilent
from cascade.tour.guide import Guide
from cascade.tour.learning import Learning
from cascade.tour.shop import Shop
from cascade.tour.visits import Visits

Chapter = Literal["known", "newcomer", "seen", "shift", "fine-tune", "canary"]
CHAPTERS: tuple[Chapter, ...] = get_args(Chapter)


def run(settings: Settings, guide: Guide, skipped: Collection[str] = ()) -> None:
    """All chapters but the skipped ones, each followed by a pause. Raises TourError.

    The visitor of the tour is forgotten and its canary aborted, however it ends.
    """
    url, page = gateway_url(settings), http_url(settings.host, settings.dagster_port)
    visitor = f"demo-{secrets.token_hex(4)}"
    store = ModelStore(settings.model_store_url)
    with ExitStack() as stack:
        # Proxies of the environment are for the world outside, not for one's own machine.
        client = stack.enter_context(httpx.Client(base_url=url, timeout=gateway.TIMEOUT_S, trust_env=False))
        asked = stack.enter_context(httpx.Client(base_url=page, timeout=dagster_page.TIMEOUT_S, trust_env=False))
        shop = Shop(url, client)
        stack.callback(_forget, shop, visitor, guide)
        visits = Visits(shop, guide, visitor)
        chapters: dict[Chapter, Callable[[], None]] = {
            "known": visits.known,
            "newcomer": visits.newcomer,
            "seen": visits.seen,
            "shift": visits.shift,
            "fine-tune": Learning(guide, settings, store, Dagster(page, asked)).run,
            "canary": CanaryChapter(shop, guide, settings, store, visitor).run,
        }
        guide.say(
            f"A tour of what runs at {url}, as the visitor {visitor}; the storefront there shows the same in a "
            "browser. At the end the visitor is forgotten and the canary aborted; its lists and clicks "
            "leave the log, as anybody's would."
        )
        for name in CHAPTERS:
            if name in skipped:
                continue
            guide.pause()
            try:
                chapters[name]()
            except DagsterSilent as error:  # the shop serves without it
                guide.say(f"Left out: {error}.")


def _forget(shop: Shop, visitor: str, guide: Guide) -> None:
    try:
        shop.forget(visitor)
    except GatewaySilent as error:
        guide.say(f"{visitor} could not be forgotten: {error}.")
    else:
        guide.say(f"The shop has forgotten {visitor}.")
