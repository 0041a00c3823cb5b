"""A judge over the real sources, as the settings name them; and the services of a local run, told at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

from cascade.canary.clicks import StreamClicks
from cascade.canary.judge import Judge
from cascade.canary.outcomes import Increments
from cascade.canary.policy import policy_of
from cascade.canary.record import Record
from cascade.canary.sources import TIMEOUT_S, source
from cascade.local.parts import GATEWAY
from cascade.local.probes import http_url
from cascade.local.refresh import Told, tell
from cascade.online.connection import connect_blocking
from cascade.settings import Settings
from cascade.store import ModelStore
from cascade.store.canary import Canary

_REDIS_TIMEOUT_S = 5.0


@contextmanager
def judge_of(settings: Settings, service: str, report: Callable[[Canary, Record], None]) -> Iterator[Judge]:
    """A judge of a service's canary."""
    gateways = settings.canary_gateways or http_url(settings.host, settings.gateway_port)
    with (
        httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client,
        connect_blocking(settings.redis(), timeout_s=_REDIS_TIMEOUT_S) as redis,
    ):
        yield Judge(
            ModelStore(settings.model_store_url),
            service,
            policy_of(settings),
            Increments(
                source(client, gateways, settings.canary_prometheus, service, settings.internal_token),
                service,
                time.time,
            ),
            StreamClicks(redis, service, settings.canary_click_wait_s),
            tell=lambda: tell_both(settings, service),
            report=report,
        )


def tell_both(settings: Settings, service: str) -> list[Told]:
    """Make the gateway and the service of a local run look at the canary now; → what they said, nothing without a run.

    Elsewhere they look by themselves, every other second.
    """
    return [told for name in (GATEWAY, service) if (told := tell(settings, name)) is not None]
