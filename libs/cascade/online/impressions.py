"""The stream of impressions: what was shown, for whoever learns from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

from cascade.api.impressions import Impression
from cascade.online import keys
from cascade.online.connection import store_errors

PAYLOAD = "payload"


class ImpressionStream:
    """Appends impressions, many at once.

    kept: about how many entries the stream holds; the oldest go
    """

    def __init__(self, client: Redis, kept: int) -> None:
        self._client = client
        self._kept = kept

    async def append(self, impressions: Sequence[Impression]) -> None:
        """One round trip for all. Raises OnlineStoreDown; some may be written then."""
        with store_errors("writing impressions"):
            async with self._client.pipeline(transaction=False) as pipe:
                for impression in impressions:
                    entry = {PAYLOAD: impression.model_dump_json()}
                    pipe.xadd(keys.IMPRESSIONS, entry, maxlen=self._kept, approximate=True)  # type: ignore[arg-type]
                await pipe.execute()


def impression_of(fields: Mapping[str, str] | Mapping[bytes, bytes]) -> Impression:
    """From an entry of the stream. Raises KeyError or ValueError on one that is not an impression."""
    payload = {_text(name): value for name, value in fields.items()}[PAYLOAD]
    return Impression.model_validate_json(payload)


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
