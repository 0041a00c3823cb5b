"""One worker: the threads of both streams and of what stands beside them, started and ended together."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from cascade.online import keys
from cascade.online.activity import FeastActivity
from cascade.online.connection import connect_blocking
from cascade.online.streams import ConsumerGroup
from cascade.privacy.suppression import Suppression
from cascade.store import ModelStore
from services.features.drift import DriftGauges
from services.features.files import LiveFiles
from services.features.forgetting import Forgetting, Places
from services.features.ingest import Ingest, Policy
from services.features.kinds import Impressions, Interactions, OfflinePushes
from services.features.rows import Catalog
from services.features.settings import FeaturesSettings
from services.features.telemetry import Telemetry


class Worker:
    """Blocks in `start` and `stop` for moments only and seconds at most; call them from a thread.

    name: unique to this process, for ever: what it leaves pending is claimed under it
    """

    def __init__(self, settings: FeaturesSettings, catalog: Callable[[], Catalog], telemetry: Telemetry) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        url, timeout_s = settings.redis_url.get_secret_value(), settings.redis_timeout_ms / 1000
        self._redis = connect_blocking(url, timeout_s=timeout_s)
        self._close_s = max(1.0, settings.shutdown_timeout_s / 2)
        # Feast's client is one thread's: one for each of the two that push.
        online, offline = (
            FeastActivity(settings.feast_registry, url, settings.event_weights, timeout_s) for _ in range(2)
        )
        self._online = online
        forgotten = Suppression(self._redis).among
        pushes = OfflinePushes(offline, telemetry, settings.offline_push_s, settings.offline_rows, forgotten)
        files, policy = LiveFiles(settings.dataset), policy_of(settings)

        def ingest(kind: Any) -> Ingest[Any]:
            group = ConsumerGroup(self._redis, kind.stream, keys.FEATURES_GROUP, self.name)
            return Ingest(group, kind, files, catalog, policy, telemetry, forgotten)

        self._ingests: Sequence[Ingest[Any]] = [
            ingest(Interactions(self._redis, online, pushes, telemetry)),
            ingest(Impressions(self._redis, settings.attribution_s)),
        ]
        forgetting = Forgetting(
            self._redis,
            self.name,
            files,
            Places(settings.dataset, settings.feast_registry.parent / "offline", settings.artifacts),
            ModelStore(settings.model_store),
            telemetry,
            poll_s=settings.forget_poll_s,
            settle_s=settings.forget_settle_s,
        )
        drift = DriftGauges(self._redis, telemetry, settings.drift_poll_s)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=run, args=(self._stop,), name=name, daemon=True)
            for run, name in (
                (self._ingests[0].run, "interactions"),
                (self._ingests[1].run, "impressions"),
                (pushes.run, "offline-pushes"),
                (forgetting.run, "forgetting"),
                (drift.run, "drift"),
            )
        ]

    def warm_up(self) -> None:
        """What the first event would wait for. Raises FeatureStoreNotReady before the registry is built."""
        self._online.warm_up()

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Read no more, write what is ready, acknowledge it, go."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for ingest in self._ingests:
            ingest.close(self._close_s)
        self._redis.close()

    def trouble(self) -> str | None:
        """Why it does not work right now, or None."""
        dead = [thread.name for thread in self._threads if not thread.is_alive()]
        troubles = [ingest.trouble for ingest in self._ingests if ingest.trouble is not None]
        return f"ended: {', '.join(dead)}" if dead else "; ".join(dict.fromkeys(troubles)) or None


def policy_of(settings: FeaturesSettings) -> Policy:
    """The engine's numbers."""
    return Policy(
        cycle_s=settings.cycle_ms / 1000,
        read_count=settings.read_count,
        flush_s=settings.flush_s,
        flush_entries=settings.flush_entries,
        most_held=settings.most_held,
        claim_after_s=settings.claim_after_s,
        tries=settings.tries,
        retry_s=settings.retry_s,
        dead_letters=settings.dead_letters,
    )
