"""A user's traces in Redis beside the keys of the user: entries of streams, clicks of lists, members of sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson
from redis import Redis
from redis.exceptions import RedisError

from cascade.online import keys
from cascade.online.feast_rows import row_key

_PAGE = 1000
_STREAMS = {
    "pending_events": keys.EVENTS,
    "pending_impressions": keys.IMPRESSIONS,
    "dead_letters": keys.DEAD_LETTERS,
}


def erase_keys(client: Redis, user_id: str) -> int:
    """The user's own keys once more: what was under way when the forgetting began may have written them since."""
    redis: Any = client
    mine = keys.seen(user_id), keys.recent(user_id), keys.seen_before_generations(user_id), row_key(user_id)
    return int(redis.unlink(*mine))


def erase_entries(client: Redis, user_id: str) -> tuple[dict[str, int], set[str]]:
    """Remove the user's entries from the streams; → how many went from each, and the request ids that they named."""
    redis: Any = client
    removed: dict[str, int] = {}
    requests: set[str] = set()
    for name, stream in _STREAMS.items():
        found = [(entry, request) for entry, user, request in _entries(redis, stream) if user == user_id]
        ids = [entry for entry, _ in found]
        for start in range(0, len(ids), _PAGE):
            redis.xdel(stream, *ids[start : start + _PAGE])
        removed[name] = len(ids)
        requests |= {request for _, request in found if request}
    return removed, requests


def _entries(redis: Any, stream: str) -> Iterator[tuple[bytes, str | None, str | None]]:
    """Id, user and request of every entry."""
    start = "-"
    while page := redis.xrange(stream, start, "+", count=_PAGE):
        for entry, fields in page:
            yield entry, *who(fields)
        start = f"({page[-1][0].decode()}"


def who(fields: Mapping[bytes, bytes]) -> tuple[str | None, str | None]:
    """User and request id of an event, an impression, or a dead letter of either."""
    plain = {name.removeprefix(b"entry."): value for name, value in fields.items()}
    if b"payload" in plain:
        try:
            shown = orjson.loads(plain[b"payload"])
            return shown.get("user_id"), shown.get("request_id")
        except (ValueError, AttributeError):
            return None, None
    user, request = plain.get(b"user_id"), plain.get(b"request_id")
    return (
        None if user is None else user.decode(errors="replace"),
        None if request is None else request.decode(errors="replace"),
    )


def erase_clicks(client: Redis, requests: Iterable[str]) -> int:
    """Clicks noted for the user's lists; → how many notes went."""
    redis: Any = client
    names, gone = [keys.clicked(request) for request in requests], 0
    for start in range(0, len(names), _PAGE):
        gone += int(redis.unlink(*names[start : start + _PAGE]))
    return gone


def erase_members(client: Redis, user_id: str) -> int:
    """The user's place in the sets of those who counted in a canary's step."""
    redis: Any = client
    return sum(int(redis.srem(name, user_id)) for name in redis.scan_iter(keys.CANARY_USERS_PATTERN, count=_PAGE))


def shorten_log(client: Redis) -> bool:
    """Have Redis write its append-only file anew, so that old commands are gone; False where it will not, or may not.

    A rewrite that has begun already may hold what was removed since: that is no.
    """
    redis: Any = client
    try:
        redis.bgrewriteaof()
    except RedisError:
        return False
    return True
