"""Who clicked on what was shown, by track: from the impressions stream and the clicks noted for each list.

The gateways put every list into the stream, with the track its user was assigned; the filter notes a click on a list
under the list's request in the same atomic step that records it. So a list of `wait_s` ago is known with its clicks
here and now, before the features worker writes it to a file. The worker removes lists from the stream once it has
written them, `CASCADE_FEATURES_ATTRIBUTION_S` after they were shown: `wait_s` and a look together must be shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from redis import Redis

from cascade.canary.evalues import NOTHING, Counts
from cascade.online import keys
from cascade.online.connection import store_errors
from cascade.online.impressions import impression_of

_PAGE = 1000


@dataclass(frozen=True)
class Clicked:
    """Users who were shown their first list of the step, and how many of them did not click on it.

    cursor: where the next look goes on
    """

    cursor: str
    counts: Counts = NOTHING


class ClickSource(Protocol):
    """Where click-through comes from."""

    def since(self, cursor: str | None, version: str, step: int) -> Clicked:
        """What has ripened since the cursor; None: begin here. Raises OnlineStoreDown."""


class StreamClicks:
    """From Redis.

    client: bytes come back
    wait_s: how long a list waits for its click
    """

    def __init__(self, client: Redis, service: str, wait_s: float) -> None:
        self._client: Any = client  # its types mix sync and async results
        self._service = service
        self._wait_ms = int(1000 * wait_s)

    def since(self, cursor: str | None, version: str, step: int) -> Clicked:
        """See ClickSource."""
        with store_errors("reading impressions"):
            seconds, microseconds = self._client.time()
            ripe = f"{1000 * int(seconds) + int(microseconds) // 1000 - self._wait_ms}"
            if cursor is None:
                return Clicked(ripe)
            counts = Counts()
            users = keys.canary_users(self._service, version, step)
            while entries := self._client.xrange(keys.IMPRESSIONS, f"({cursor}", ripe, count=_PAGE):
                counts += self._counted(entries, users)
                cursor = entries[-1][0].decode()
            return Clicked(cursor, counts)

    def _counted(self, entries: Sequence[tuple[bytes, dict[bytes, bytes]]], users: str) -> Counts:
        """Of these lists, the first of each user."""
        shown = []
        for _, fields in entries:
            try:
                impression = impression_of(fields)
            except (KeyError, ValueError):  # the features worker tells of it
                continue
            track = impression.assigned.get(self._service)
            if track is not None and self._service not in impression.forced:
                shown.append((track, impression.user_id, impression.request_id))
        if not shown:
            return Counts()
        with self._client.pipeline(transaction=False) as step:
            for _, user, request in shown:
                step.sadd(users, user)
                step.exists(keys.clicked(request))
            step.expire(users, keys.CANARY_USERS_TTL_S)
            answers = step.execute()
        lists = {"stable": 0, "canary": 0}
        without = {"stable": 0, "canary": 0}
        for (track, _, _), is_first, clicked in zip(shown, answers[0:-1:2], answers[1:-1:2], strict=True):
            if is_first:
                lists[track] += 1
                without[track] += not clicked
        return Counts(lists["stable"], without["stable"], lists["canary"], without["canary"])
