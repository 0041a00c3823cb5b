"""Users who were forgotten, by digest: whoever writes about a user asks here first. The list holds no id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from redis import Redis

from cascade.online import keys


def digest_of(user_id: str) -> str:
    """What the list holds of a user: hex SHA-256 of the id."""
    return hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()


class Suppression:
    """The list, for threads. Methods raise what the client raises."""

    def __init__(self, client: Redis) -> None:
        self._client: Any = client  # the client's types mix sync and async results

    def among(self, user_ids: Iterable[str]) -> set[str]:
        """Those of these users who were forgotten: one question, whatever their number."""
        users = list(dict.fromkeys(user_ids))
        if not users:
            return set()
        found = self._client.smismember(keys.SUPPRESSED, [digest_of(user) for user in users])
        return {user for user, listed in zip(users, found, strict=True) if listed}

    def digests(self) -> frozenset[str]:
        """All of it."""
        return frozenset(entry.decode() for entry in self._client.smembers(keys.SUPPRESSED))
