"""User features from Feast's online store, for one request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cascade.api.common import UserFeatures
from cascade.online.errors import FeatureStoreNotReady, OnlineStoreDown
from cascade.online.feast_config import ENTITY, ONLINE_FEATURES, PROJECT, feature_store, import_feast

if TYPE_CHECKING:
    from feast import FeatureStore

THREADS = 8
Result = TypeVar("Result")


class FeastUserFeatures:
    """Reads age, gender and top_category of one user.

    Feast's client blocks, so each read runs in a thread and a hung Redis holds up neither the event loop nor, by the
    socket timeout, that thread.
    """

    def __init__(self, registry: Path, redis_url: str, timeout_s: float = 0.25) -> None:
        self._registry = registry
        self._redis_url = redis_url
        self._timeout_s = timeout_s
        self._store: FeatureStore | None = None
        # threads of its own: a hung Redis may hold all of them and nothing else of the process
        self._threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="feast")

    async def get(self, user_id: str) -> UserFeatures | None:
        """The user's features, or None for a user Feast does not know.

        Raises:
            FeatureStoreNotReady: the registry has not been built yet
            OnlineStoreDown: Redis did not answer
        """
        return await self._in_thread(self._read, user_id)

    async def delete(self, user_id: str) -> int:
        """Remove the user's online features; returns how many keys went."""
        return await self._in_thread(self._delete, user_id)

    async def close(self) -> None:
        """Give the connections back."""
        if self._store is not None:
            await self._store.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[[str], Result], user_id: str) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, user_id)

    def _ready_store(self) -> FeatureStore:
        if self._store is None:
            if not self._registry.exists():
                raise FeatureStoreNotReady(
                    f"Feast has no registry at {self._registry}; build the online features first"
                )
            self._store = feature_store(self._registry, self._redis_url, self._timeout_s)
        return self._store

    def _read(self, user_id: str) -> UserFeatures | None:
        from redis.exceptions import RedisError

        store = self._ready_store()
        try:
            answer: dict[str, list[Any]] = store.get_online_features(
                features=list(ONLINE_FEATURES), entity_rows=[{ENTITY: user_id}]
            ).to_dict()
        except (RedisError, OSError) as error:
            raise OnlineStoreDown(f"no user features for this request: {error}") from error
        age, gender, top_category = (answer[name][0] for name in ("age", "gender", "top_category"))
        if age is None and gender is None and top_category is None:
            return None
        return UserFeatures(
            user_id=user_id,
            age=None if age is None else float(age),
            gender=gender,
            top_category=top_category,
        )

    def _delete(self, user_id: str) -> int:
        import_feast()
        from feast.infra.online_stores.helpers import _redis_key
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value
        from redis import Redis
        from redis.exceptions import RedisError

        # Feast deletes whole views only; its own key helper names the one hash that holds a user's features
        key = _redis_key(PROJECT, EntityKey(join_keys=[ENTITY], entity_values=[Value(string_val=user_id)]))
        timeout = self._timeout_s
        try:
            with Redis.from_url(self._redis_url, socket_timeout=timeout, socket_connect_timeout=timeout) as client:
                return int(client.delete(key))
        except (RedisError, OSError) as error:
            raise OnlineStoreDown(f"the features of the user were not removed: {error}") from error
