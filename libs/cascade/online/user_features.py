"""User features from Feast's online store, for one request."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cascade.api.common import UserFeatures
from cascade.online.errors import FeatureStoreNotReady
from cascade.online.feast_config import ENTITY, ONLINE_FEATURES, PROJECT, import_feast
from cascade.online.pipelined import PipelinedRedis


class FeastUserFeatures:
    """Reads age, gender and top_category of one user: one HMGET of the hash in which Feast keeps them.

    Feast's own client blocks, so that a request would need a thread, and takes 0.2 ms; its helpers name the hash and
    its fields here, and its message type reads the values (a test holds both to `get_online_features`).
    """

    def __init__(self, registry: Path, redis_url: str, timeout_s: float = 0.25) -> None:
        self._registry = registry
        self._reader = PipelinedRedis(redis_url, timeout_s)
        self._layout: _Layout | None = None
        # Importing Feast takes seconds, which no other request should wait for.
        self._importing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feast")

    async def get(self, user_id: str) -> UserFeatures | None:
        """The user's features, or None for a user Feast does not know.

        Raises:
            FeatureStoreNotReady: the registry has not been built yet
            OnlineStoreDown: Redis did not answer
        """
        layout = self._layout or await self._ready()
        values = await self._reader.execute("HMGET", layout.key(user_id), *layout.fields)
        age, gender, top_category = map(layout.value, values)
        if age is None and gender is None and top_category is None:
            return None
        return UserFeatures(
            user_id=user_id,
            age=None if age is None else float(age),
            gender=None if gender is None else str(gender),
            top_category=None if top_category is None else str(top_category),
        )

    async def delete(self, user_id: str) -> int:
        """Remove the user's online features; returns how many keys went."""
        layout = self._layout or await self._ready()
        return int(await self._reader.execute("UNLINK", layout.key(user_id)))

    async def close(self) -> None:
        """Give the connection back."""
        await self._reader.aclose()
        self._importing.shutdown(wait=False, cancel_futures=True)

    async def _ready(self) -> _Layout:
        if not self._registry.exists():
            raise FeatureStoreNotReady(f"Feast has no registry at {self._registry}; build the online features first")
        self._layout = await asyncio.get_running_loop().run_in_executor(self._importing, _Layout)
        return self._layout


class _Layout:
    """How Feast lays a user out in Redis: one hash, a field a feature, values as its protobuf message."""

    def __init__(self) -> None:
        import_feast()
        from feast.infra.online_stores.helpers import _mmh3, _redis_key
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        self._redis_key, self._entity_key, self._value = _redis_key, EntityKey, Value
        self.fields: list[bytes] = [_mmh3(feature) for feature in ONLINE_FEATURES]

    def key(self, user_id: str) -> bytes:
        """The hash that holds a user's features."""
        entity = self._entity_key(join_keys=[ENTITY], entity_values=[self._value(string_val=user_id)])
        key: bytes = self._redis_key(PROJECT, entity)
        return key

    def value(self, stored: bytes | None) -> float | int | str | None:
        """What a field holds."""
        if stored is None:
            return None
        message = self._value.FromString(stored)
        kind = message.WhichOneof("val")
        found: float | int | str | None = None if kind in (None, "null_val") else getattr(message, kind)
        return found
