"""A consumer group of a stream, and how entries that are delivered at least once reach a file exactly once.

Several readers share a stream: an entry read is *pending* under its reader's name until it is acknowledged. What a
dead reader left pending is claimed by the others after a time. So an entry may be read twice, and a reader that was
only slow may still hold what another has claimed. A batch therefore becomes a file in four steps:

    1. write    the batch goes to a temporary file beside its target; readers of the folder do not see it
    2. take     one atomic step: if this reader still owns every entry, they pass to the name `commit:<file>`, else
                nothing changes and it is told which were lost
    3. rename   the temporary file becomes the target
    4. finish   the entries are acknowledged, and the name goes

Ordinary claiming never touches entries under a `commit:` name. From step 2 on the file alone decides: whoever finds
such a name left over completes steps 3 and 4, which are harmless when done twice, and writes no row again. Before
step 2 nothing is visible, and the entries are claimed and written anew by another reader. So a reader may die between
any two steps, and Redis may lose the answer to any of them (all may be asked again).

Every command works on Redis 6.2 and later and on Valkey.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from cascade.online import keys

COMMIT_PREFIX = "commit:"
_PAGE = 1000

# KEYS: stream. ARGV: group, owner, new owner, ids in order. Passes the ids on if `owner` (or `new owner`, after an
# answer that was lost) holds all of them; otherwise returns those neither holds. A reader's whole range is asked for at
# once: one question an entry would keep the server for 40 ms from everyone else.
_MOVE = """
local held = {}
for _, owner in ipairs({ARGV[2], ARGV[3]}) do
    for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[4], ARGV[#ARGV], 1000000000, owner)) do
        held[row[1]] = true
    end
end
local lost = {}
for i = 4, #ARGV do
    if not held[ARGV[i]] then
        lost[#lost + 1] = ARGV[i]
    end
end
if #lost > 0 then
    return lost
end
for i = 4, #ARGV, 1000 do
    local call = {'XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, unpack(ARGV, i, math.min(i + 999, #ARGV))}
    call[#call + 1] = 'JUSTID'
    redis.call(unpack(call))
end
return lost
"""

# KEYS: stream. ARGV: group, consumer, ids. Acknowledges them, and removes the consumer when nothing is left under it
# (removing one drops what is pending under it).
_FINISH = """
for i = 3, #ARGV, 1000 do
    redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end
"""

# KEYS: stream, dead letters. ARGV: group, owner, id, most dead letters, field and value in turn.
_BURY = """
local found = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if not found[1] or found[1][2] ~= ARGV[2] then
    return 0
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', unpack(ARGV, 5))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
return 1
"""

# KEYS: stream. Removes what every group has acknowledged: all below the oldest entry that is pending or undelivered.
_TRIM = """
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err or #groups == 0 then
    return 0
end
local lowest_ms, lowest_seq = nil, nil
for _, group in ipairs(groups) do
    local facts = {}
    for i = 1, #group, 2 do
        facts[group[i]] = group[i + 1]
    end
    local oldest = redis.call('XPENDING', KEYS[1], facts['name'])[2]
    local ms, seq = string.match(oldest or facts['last-delivered-id'], '(%d+)-(%d+)')
    ms, seq = tonumber(ms), tonumber(seq)
    if not oldest then
        seq = seq + 1
    end
    if lowest_ms == nil or ms < lowest_ms or (ms == lowest_ms and seq < lowest_seq) then
        lowest_ms, lowest_seq = ms, seq
    end
end
return redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f-%.0f', lowest_ms, lowest_seq))
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a stream as it was delivered to this reader.

    tries: how often it was delivered to be worked on; claiming from a reader that died does not count
    """

    id: str
    fields: Mapping[bytes, bytes]
    tries: int = 1

    @property
    def at_ms(self) -> int:
        """When it was added: the server's clock, milliseconds since 1970."""
        return int(self.id.partition("-")[0])


@dataclass(frozen=True)
class Backlog:
    """length: entries in the stream, acknowledged ones that are not trimmed yet included; pending: delivered and not
    acknowledged."""

    length: int
    pending: int


class ConsumerGroup:
    """One reader of a group, for all threads of its process. Methods raise what the client raises.

    consumer: unique to this process, for ever
    """

    def __init__(self, client: Redis, stream: str, group: str, consumer: str) -> None:
        if consumer.startswith(COMMIT_PREFIX):
            raise ValueError(f"a reader may not be called {consumer!r}: {COMMIT_PREFIX!r} is reserved for files")
        self.stream, self.group, self.consumer = stream, group, consumer
        self._client: Any = client  # the client's types mix sync and async results
        self._move = client.register_script(_MOVE)
        self._finish = client.register_script(_FINISH)
        self._bury = client.register_script(_BURY)
        self._trim = client.register_script(_TRIM)

    def now_ms(self) -> int:
        """The server's clock, which entries have their time of: milliseconds since 1970."""
        seconds, micros = self._client.time()
        return int(1000 * seconds + micros // 1000)

    def ensure(self) -> None:
        """Create stream and group where they are missing; a new group begins with the stream's first entry."""
        try:
            self._client.xgroup_create(self.stream, self.group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def read(self, count: int, block_ms: int) -> list[Entry]:
        """New entries, at most `count`; waits up to `block_ms` where there are none (0: does not wait)."""
        arguments: dict[str, Any] = {"count": count, "block": block_ms or None}
        try:
            answer = self._client.xreadgroup(self.group, self.consumer, {self.stream: ">"}, **arguments)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self.ensure()  # the server was emptied under us
            answer = self._client.xreadgroup(self.group, self.consumer, {self.stream: ">"}, **arguments)
        return [Entry(_text(entry), fields) for _, entries in answer or [] for entry, fields in entries]

    # What others left behind

    def claim(self, idle_ms: int, count: int, held: Collection[str] = ()) -> list[Entry]:
        """Entries that were pending for longer than `idle_ms` under other readers become this one's.

        Also this reader's own that it does not know of, since the answer to a read was lost. `held`: entries it still
        has in hand, whoever owns them now; they are left alone, so that it never has one twice.
        """
        found: list[str] = []
        tries: dict[str, int] = {}
        for row in self._pending(idle_ms):
            owner, entry = _text(row["consumer"]), _text(row["message_id"])
            if owner.startswith(COMMIT_PREFIX) or entry in held:
                continue
            found.append(entry)
            tries[entry] = int(row["times_delivered"])
            if len(found) == count:
                break
        if not found:
            return []
        # Of several that claim at once the first resets the idle time, and the others get nothing.
        claimed = self._client.xclaim(self.stream, self.group, self.consumer, idle_ms, found, justid=True)
        return self._fetch([_text(entry) for entry in claimed], tries)

    def renew(self, idle_ms: int, held: Collection[str]) -> None:
        """Tell the others that this reader still works on what it holds: entries idle for longer than `idle_ms`."""
        rows = self._pending(idle_ms, self.consumer)
        mine = [entry for entry in (_text(row["message_id"]) for row in rows) if entry in held]
        for start in range(0, len(mine), _PAGE):
            some = mine[start : start + _PAGE]
            lost = self._moved(self.consumer, self.consumer, some)
            if lost and len(lost) < len(some):
                self._moved(self.consumer, self.consumer, [entry for entry in some if entry not in lost])

    def retry(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those of the entries that are still this reader's, each with one try more."""
        kept = self.owned([entry.id for entry in entries])
        again = [Entry(entry.id, entry.fields, entry.tries + 1) for entry in entries if entry.id in kept]
        with self._client.pipeline(transaction=False) as step:
            for entry in again:
                step.xclaim(self.stream, self.group, self.consumer, 0, [entry.id], retrycount=entry.tries, justid=True)
            step.execute()
        return again

    def owned(self, ids: Sequence[str]) -> set[str]:
        """Which of these are pending under this reader."""
        with self._client.pipeline(transaction=False) as step:
            for entry in ids:
                step.xpending_range(self.stream, self.group, entry, entry, 1)
            rows = step.execute()
        return {
            entry
            for entry, found in zip(ids, rows, strict=True)
            if found and _text(found[0]["consumer"]) == self.consumer
        }

    # From entries to a file

    def take(self, ids: Sequence[str], file: str) -> set[str]:
        """Step 2: pass the entries to the file. Returns those lost to others; if there is one, nothing was passed."""
        return self._moved(self.consumer, COMMIT_PREFIX + file, ids)

    def finish(self, ids: Sequence[str], file: str) -> None:
        """Step 4: acknowledge the entries of a file that is in place."""
        self._finish(keys=[self.stream], args=[self.group, COMMIT_PREFIX + file, *ids])

    def unfinished(self, idle_ms: int) -> dict[str, list[str]]:
        """Files whose step 2 was longer ago than `idle_ms` and that are not finished, with their entries."""
        files: dict[str, list[str]] = {}
        for row in self._pending(idle_ms):
            owner = _text(row["consumer"])
            if owner.startswith(COMMIT_PREFIX):
                files.setdefault(owner.removeprefix(COMMIT_PREFIX), []).append(_text(row["message_id"]))
        return files

    def is_committing(self, file: str) -> bool:
        """Whether entries are pending under the file's name."""
        name = COMMIT_PREFIX + file
        return bool(self._client.xpending_range(self.stream, self.group, "-", "+", 1, consumername=name))

    def take_back(self, ids: Sequence[str], file: str) -> list[Entry]:
        """The entries of a file that exists neither under its name nor under its temporary one: to be written anew."""
        if self._moved(COMMIT_PREFIX + file, self.consumer, ids):
            return []
        return self._fetch(ids, {})

    def bury(self, entry: Entry, reason: str, most: int) -> bool:
        """Move an entry that cannot be used to the dead letters; False if it is no longer this reader's."""
        letter: list[str | bytes] = ["stream", self.stream, "id", entry.id]
        letter += ["reason", reason, "tries", str(entry.tries)]
        for name, value in entry.fields.items():
            letter += [b"entry." + name, value]
        arguments = [self.group, self.consumer, entry.id, most, *letter]
        return bool(self._bury(keys=[self.stream, keys.DEAD_LETTERS], args=arguments))

    def drop(self, ids: Sequence[str]) -> None:
        """Acknowledge entries of this reader that become no row."""
        for start in range(0, len(ids), _PAGE):
            self._client.xack(self.stream, self.group, *ids[start : start + _PAGE])

    # Housekeeping

    def trim(self) -> int:
        """Remove what every group of the stream has acknowledged; returns how many entries went."""
        return int(self._trim(keys=[self.stream]))

    def backlog(self) -> Backlog:
        """How much waits."""
        return Backlog(
            int(self._client.xlen(self.stream)), int(self._client.xpending(self.stream, self.group)["pending"])
        )

    def forget_idle(self, idle_ms: int) -> int:
        """Remove readers that have been silent for that long and hold nothing; returns how many."""
        gone = 0
        for row in self._client.xinfo_consumers(self.stream, self.group):
            if row["name"] != self.consumer.encode() and row["pending"] == 0 and row["idle"] > idle_ms:
                # without ids it acknowledges nothing, and removes the name if nothing is pending under it
                self._finish(keys=[self.stream], args=[self.group, row["name"]])
                gone += 1
        return gone

    def leave(self) -> None:
        """Remove this reader's name, unless something is pending under it, which the others will claim."""
        self._finish(keys=[self.stream], args=[self.group, self.consumer])

    def _pending(self, idle_ms: int, consumer: str | None = None) -> Iterable[Mapping[str, Any]]:
        """Everything pending for longer than `idle_ms` (under one name), page by page, in the stream's order."""
        start = "-"
        while True:
            rows = self._client.xpending_range(
                self.stream, self.group, start, "+", _PAGE, consumername=consumer, idle=idle_ms
            )
            yield from rows
            if len(rows) < _PAGE:
                return
            start = "(" + _text(rows[-1]["message_id"])

    def _moved(self, owner: str, new_owner: str, ids: Sequence[str]) -> set[str]:
        in_order = sorted(ids, key=_order)
        lost = self._move(keys=[self.stream], args=[self.group, owner, new_owner, *in_order])
        return {_text(entry) for entry in lost}

    def _fetch(self, ids: Sequence[str], tries: Mapping[str, int]) -> list[Entry]:
        with self._client.pipeline(transaction=False) as step:
            for entry in ids:
                step.xrange(self.stream, entry, entry)
            found = step.execute()
        entries: list[Entry] = []
        for entry, rows in zip(ids, found, strict=True):
            if rows:
                entries.append(Entry(entry, rows[0][1], tries.get(entry, 1)))
            else:  # removed from the stream by hand while it was pending: there is nothing to work on
                self._client.xack(self.stream, self.group, entry)
        return entries


def _order(entry: str) -> tuple[int, int]:
    ms, _, seq = entry.partition("-")
    return int(ms), int(seq)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
