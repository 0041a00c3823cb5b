"""The stream of impressions: what was shown, for whoever learns from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cascade.api.impressions import Impression
from cascade.online import keys
from cascade.online.pipelined import PipelinedRedis

PAYLOAD = "payload"


class ImpressionStream:
    """Appends impressions, many at once.

    kept: about how many entries the stream holds; the oldest go
    """

    def __init__(self, redis: PipelinedRedis, kept: int) -> None:
        self._redis = redis
        self._kept = kept

    async def append(self, payloads: Sequence[bytes | str]) -> None:
        """One round trip for all. payloads: JSON of Impression. Raises OnlineStoreDown; some may be written then."""
        head = ("XADD", keys.IMPRESSIONS, "MAXLEN", "~", self._kept, "*", PAYLOAD)
        await self._redis.execute_all([(*head, payload) for payload in payloads])


def impression_of(fields: Mapping[str, str] | Mapping[bytes, bytes]) -> Impression:
    """From an entry of the stream. Raises KeyError or ValueError on one that is not an impression."""
    payload = {_text(name): value for name, value in fields.items()}[PAYLOAD]
    return Impression.model_validate_json(payload)


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
