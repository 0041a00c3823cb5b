"""User features from Feast's online store, for one request."""

from __future__ import annotations

from pathlib import Path

from cascade.api.common import UserFeatures
from cascade.online import keys
from cascade.online.errors import FeatureStoreNotReady
from cascade.online.feast_config import ONLINE_FEATURES
from cascade.online.feast_rows import decode_value, feature_field, row_key
from cascade.online.pipelined import PipelinedRedis

_FIELDS = [feature_field(*feature.split(":", 1)) for feature in ONLINE_FEATURES]


class FeastUserFeatures:
    """Reads age, gender and top_category of one user, and the latest interactions.

    One HMGET of the hash in which Feast keeps the former and one LRANGE of the latter, in one round trip: an event is
    known to the request that follows it, without waiting for the features worker.

    Feast's own client blocks, so that a request would need a thread, and takes 0.2 ms; `feast_rows` names the hash and
    its fields and reads the values as Feast does (a test holds it to `get_online_features`), without importing Feast.
    """

    def __init__(self, registry: Path, redis_url: str, timeout_s: float = 0.25) -> None:
        self._registry = registry
        self._redis = PipelinedRedis(redis_url, timeout_s)
        self._built = False

    async def get(self, user_id: str) -> UserFeatures | None:
        """The user's features, or None for a user Feast does not know and who did nothing lately.

        Raises:
            FeatureStoreNotReady: the registry has not been built yet
            OnlineStoreDown: Redis did not answer
            FeatureValueUnreadable: what is stored is no value of a feature
        """
        self._require_built()
        stored, entries = await self._redis.execute_all(
            [("HMGET", row_key(user_id), *_FIELDS), ("LRANGE", keys.recent(user_id), 0, keys.RECENT_MAX - 1)]
        )
        age, gender, top_category = map(decode_value, stored)
        if age is None and gender is None and top_category is None and not entries:
            return None
        return UserFeatures(
            user_id=user_id,
            age=None if age is None else float(age),
            gender=None if gender is None else str(gender),
            top_category=None if top_category is None else str(top_category),
            recent=[entry.decode() for entry in entries],
        )

    async def close(self) -> None:
        """Give the connection back."""
        await self._redis.aclose()

    def _require_built(self) -> None:
        self._built = self._built or self._registry.exists()
        if not self._built:
            raise FeatureStoreNotReady(f"Feast has no registry at {self._registry}; build the online features first")
