"""User features from Feast's online store, for one request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cascade.api.common import UserFeatures
from cascade.online import keys
from cascade.online.errors import FeatureStoreNotReady
from cascade.online.feast_config import ONLINE_FEATURES, import_feast
from cascade.online.feast_rows import feature_field, row_key
from cascade.online.pipelined import PipelinedRedis

ValueReader = Callable[[bytes | None], float | int | str | None]

_FIELDS = [feature_field(*feature.split(":", 1)) for feature in ONLINE_FEATURES]


class FeastUserFeatures:
    """Reads age, gender and top_category of one user, and the latest interactions.

    One HMGET of the hash in which Feast keeps the former and one LRANGE of the latter, in one round trip: an event is
    known to the request that follows it, without waiting for the features worker.

    Feast's own client blocks, so that a request would need a thread, and takes 0.2 ms; `feast_rows` names the hash and
    its fields as Feast does, and Feast's message type reads the values (a test holds both to `get_online_features`).
    """

    def __init__(self, registry: Path, redis_url: str, timeout_s: float = 0.25) -> None:
        self._registry = registry
        self._redis = PipelinedRedis(redis_url, timeout_s)
        self._read_value: ValueReader | None = None
        # Importing Feast takes seconds, which no other request should wait for.
        self._importing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feast")

    async def get(self, user_id: str) -> UserFeatures | None:
        """The user's features, or None for a user Feast does not know and who did nothing lately.

        Raises:
            FeatureStoreNotReady: the registry has not been built yet
            OnlineStoreDown: Redis did not answer
        """
        read = self._read_value or await self._ready()
        stored, entries = await self._redis.execute_all(
            [("HMGET", row_key(user_id), *_FIELDS), ("LRANGE", keys.recent(user_id), 0, keys.RECENT_MAX - 1)]
        )
        age, gender, top_category = map(read, stored)
        if age is None and gender is None and top_category is None and not entries:
            return None
        return UserFeatures(
            user_id=user_id,
            age=None if age is None else float(age),
            gender=None if gender is None else str(gender),
            top_category=None if top_category is None else str(top_category),
            recent=[entry.decode() for entry in entries],
        )

    async def delete(self, user_id: str) -> int:
        """Remove the user's online features; returns how many keys went."""
        if self._read_value is None:
            await self._ready()
        return int(await self._redis.execute("UNLINK", row_key(user_id)))

    async def close(self) -> None:
        """Give the connection back."""
        await self._redis.aclose()
        self._importing.shutdown(wait=False, cancel_futures=True)

    async def _ready(self) -> ValueReader:
        if not self._registry.exists():
            raise FeatureStoreNotReady(f"Feast has no registry at {self._registry}; build the online features first")
        self._read_value = await asyncio.get_running_loop().run_in_executor(self._importing, _value_reader)
        return self._read_value


def _value_reader() -> ValueReader:
    """What reads a stored value by Feast's own message type."""
    import_feast()
    from feast.protos.feast.types.Value_pb2 import Value

    def read(stored: bytes | None) -> float | int | str | None:
        if stored is None:
            return None
        message = Value.FromString(stored)
        kind = message.WhichOneof("val")
        found: float | int | str | None = None if kind in (None, "null_val") else getattr(message, kind)
        return found

    return read
