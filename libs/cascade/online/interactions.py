"""What a user did: one atomic step to write it, and what reads it back.

The step hides the item for the user (generations.py), puts it first among the recent ones, notes a click on a list for
the list's impression, and appends the event to the stream. It is a Lua script, so that either all of it happens or
none; plain EVAL scripts run on Redis 6.2 and later and on Valkey. A write that its sender named happens once, however
often and through whichever replica it is sent: the step notes the name, and answers again what it answered first.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import compress
from typing import Any, NamedTuple, Protocol, cast

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from cascade.api.common import recent_parts
from cascade.features.spec import NEGATIVE_EVENT_TYPES
from cascade.online import keys
from cascade.online.bloom import PositionTable
from cascade.online.connection import store_errors
from cascade.online.errors import ForgottenUser
from cascade.online.generations import HIDE, SeenShape
from cascade.privacy.suppression import digest_of

# KEYS: seen items, recent list, stream, forgotten users; the list's clicked items where the event belongs to a list;
#       the note of the write where it has a name.
# ARGV: seconds to live, length of the recent list, its new entry, item, seconds to live of the clicked items,
#       UTC seconds now, the four of SeenShape.arguments, places of the last two keys or 0, seconds to live of the note,
#       number of stream values, the user's digest, field and value in turn, the bits.
# Returns false, and does nothing, of a user who was forgotten.
_RECORD = (
    HIDE
    + """
if redis.call('SISMEMBER', KEYS[4], ARGV[15]) == 1 then
    return false
end
local clicked, written = KEYS[tonumber(ARGV[11])], KEYS[tonumber(ARGV[12])]
local made = written and redis.call('GET', written)
if made then
    return made
end
local ttl = tonumber(ARGV[1])
local fields = tonumber(ARGV[14])
hide(KEYS[1], tonumber(ARGV[6]), ttl, tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10],
    16 + fields, #ARGV)
redis.call('LPUSH', KEYS[2], ARGV[3])
redis.call('LTRIM', KEYS[2], 0, tonumber(ARGV[2]) - 1)
redis.call('EXPIRE', KEYS[2], ttl)
if clicked then
    redis.call('SADD', clicked, ARGV[4])
    redis.call('EXPIRE', clicked, ARGV[5])
end
made = redis.call('XADD', KEYS[3], '*', unpack(ARGV, 16, 15 + fields))
if written then
    redis.call('SET', written, made, 'EX', ARGV[13])
end
return made
"""
)
_RECORD_SHA = hashlib.sha1(_RECORD.encode(), usedforsecurity=False).hexdigest()  # how Redis names scripts


@dataclass(frozen=True)
class Event:
    """An interaction as the stream holds it: every field a string there, "" for null.

    timestamp: UTC seconds
    """

    user_id: str
    item_id: str
    timestamp: int
    event_type: str
    device_type: str | None = None
    request_id: str | None = None

    @property
    def is_click_on_a_list(self) -> bool:
        """Whether it is attributed to the list of its request: every type is but the negative ones."""
        return self.request_id is not None and self.event_type not in NEGATIVE_EVENT_TYPES

    def fields(self) -> dict[str, str]:
        """For XADD."""
        return {name: "" if value is None else str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Event:
        """From an entry of the stream. Raises KeyError or ValueError on one that is not an event."""
        return cls(
            user_id=fields["user_id"],
            item_id=fields["item_id"],
            timestamp=int(fields["timestamp"]),
            event_type=fields["event_type"],
            device_type=fields["device_type"] or None,
            request_id=fields["request_id"] or None,
        )


class RecentItem(NamedTuple):
    """One of a user's latest interactions. timestamp: UTC seconds."""

    timestamp: int
    event_type: str
    item_id: str

    def encode(self) -> str:
        """`timestamp|event_type|item_id`, as keys.py describes it."""
        return f"{self.timestamp}|{self.event_type}|{self.item_id}"

    @classmethod
    def decode(cls, entry: str) -> RecentItem:
        """The other way; an item id may hold the separator itself."""
        return cls(*cls.parts(entry))

    @staticmethod
    def parts(entry: str) -> tuple[int, str, str]:
        """The same as a plain tuple, for the features worker, which reads fifty of them for each event."""
        return recent_parts(entry)


class Reader(Protocol):
    """What reads a user's seen items: a client, or a PipelinedRedis."""

    async def get(self, key: str) -> bytes | None:
        """The value of a string."""


class Writer(Protocol):
    """What runs the step: a client, or a PipelinedRedis."""

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        """What a script that the server has returns. Raises NoScriptError where it has it not."""

    async def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any:
        """What a script returns; the server has it from then on."""


class Interactions:
    """Seen items, recent items and the event stream of all users, over one async client.

    Every method raises OnlineStoreDown where Redis does not answer, and the next call tries again.
    """

    def __init__(
        self,
        client: Redis,
        shape: SeenShape | None = None,
        *,
        seen_ttl_s: int = keys.SEEN_TTL_S,
        cached_items: int = 200_000,
        clock: Callable[[], float] = time.time,
        reader: Reader | None = None,
        writer: Writer | None = None,
    ) -> None:
        """
        shape: of every user's seen items; what is stored in another shape counts as unseen, and is replaced by the
            user's next interaction
        cached_items: how many items' bits are kept
        clock: UTC seconds
        reader: of seen items, from the same Redis; none: the client
        writer: runs the step there; none: the client
        """
        self._client = client
        self._reader = reader or cast("Reader", client)  # the client's types mix sync and async
        self._writer = writer or cast("Writer", client)
        self._shape = shape or SeenShape()
        self._positions = PositionTable(self._shape.filter, cached_items)
        self._seen_ttl_s = seen_ttl_s
        self._clock = clock

    async def record(self, event: Event, write_id: str | None = None) -> str:
        """Write one interaction; returns the id of its event in the stream, once all of it is done.

        write_id: the sender's name for this write; within WRITTEN_TTL_S it has its effect once, and the same answer

        Raises ForgottenUser of one who was forgotten: nothing is written then.
        """
        recent = RecentItem(event.timestamp, event.event_type, event.item_id)
        fields = [part for pair in event.fields().items() for part in pair]
        bits = self._positions.lookup([event.item_id])[:, 0].tolist()
        names = [keys.seen(event.user_id), keys.recent(event.user_id), keys.EVENTS, keys.SUPPRESSED]
        clicked = written = 0
        if event.is_click_on_a_list:
            names.append(keys.clicked(str(event.request_id)))
            clicked = len(names)
        if write_id is not None:
            names.append(keys.written(write_id))
            written = len(names)
        arguments = [
            *names,
            self._seen_ttl_s,
            keys.RECENT_MAX,
            recent.encode(),
            event.item_id,
            keys.CLICKED_TTL_S,
            f"{self._clock():.3f}",
            *self._shape.arguments(self._seen_ttl_s),
            clicked,
            written,
            keys.WRITTEN_TTL_S,
            len(fields),
            digest_of(event.user_id),
            *fields,
            *bits,
        ]
        with store_errors("recording an interaction"):
            try:
                event_id = await self._writer.evalsha(_RECORD_SHA, len(names), *arguments)
            except NoScriptError:  # a server that was restarted, or met for the first time; nothing ran yet
                event_id = await self._writer.eval(_RECORD, len(names), *arguments)
        if event_id is None:
            raise ForgottenUser
        return _text(event_id)

    async def unseen(self, user_id: str, item_ids: Sequence[str]) -> list[str]:
        """The ids that the user has not met, in their order."""
        with store_errors("reading seen items"):
            stored: bytes | None = await self._reader.get(keys.seen(user_id))
        if not stored:
            return list(item_ids)
        since = self._clock() - self._seen_ttl_s
        seen = self._shape.held(stored, self._positions.lookup(item_ids), since)
        return list(compress(item_ids, (~seen).tobytes()))  # a byte an item, 0 or 1

    async def recent(self, user_id: str, count: int = keys.RECENT_MAX) -> list[RecentItem]:
        """The user's latest interactions, newest first."""
        with store_errors("reading recent items"):
            # The client's types mix sync and async results.
            entries = await self._client.lrange(keys.recent(user_id), 0, count - 1)  # type: ignore[misc]
        return [RecentItem.decode(_text(entry)) for entry in entries]

    async def forget(self, user_id: str) -> int:
        """Remove the user's seen and recent items; returns how many keys there were. Events in the stream stay."""
        with store_errors("forgetting a user"):
            mine = keys.seen(user_id), keys.recent(user_id), keys.seen_before_generations(user_id)
            return int(await self._client.unlink(*mine))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
