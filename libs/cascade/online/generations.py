"""What a user has seen, as generations of Bloom filters in one string: the newest items stay hidden, the oldest return.

A single filter fills up: at five times its capacity it claims to hold nearly everything, and hides the shop. Here an
item goes into the newest of at most GENERATIONS filters. A new one begins when the newest is full (a counter of items
it did not hold yet) or older than a quarter of the time to live; where no filter is free, the oldest is emptied for it.

    hidden      an item stays hidden for the time to live, ttl, after it was met last, unless at least `capacity`
                interactions came after it; so the newest `capacity` interactions of the last ttl are always hidden
    returns     at the latest ttl / AGE_STEPS (and two seconds) after that, however active the user is: a filter counts
                as long as its newest item is within the ttl, and takes items for ttl / AGE_STEPS only
    rate        each filter keeps error_rate / GENERATIONS, so that all of them together keep error_rate (union bound)
    memory      HEADER_BYTES and one filter to begin with, GENERATIONS filters at most

Why AGE_STEPS + COUNT_STEPS filters are enough: a filter is emptied early only after as many others were begun and
closed behind it, but one. If AGE_STEPS of them were closed by age, that took the whole ttl and its items had returned
anyway; otherwise COUNT_STEPS were closed as full, and hold `capacity` newer items.

The string, little-endian:

    signature   12 bytes: "G1", u16 hashes, u32 bits of a filter, u32 items of a filter; a string with another one
                (settings were changed) counts as empty, and is begun anew by the next write
    newest      u32: the place of the filter that takes items
    rows        GENERATIONS × (u32 number, u32 items, u32 begun, u32 newest item), times in UTC seconds rounded up;
                0 items: the place is free
    filters     bitmaps one after another, only as many as were ever needed at once

One string and not a hash or a key a generation: bits of a string can be set where they lie, one GET reads all of it,
one key is in one slot of a cluster, and one time to live ends it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cascade.online.bloom import Bits, BloomShape

AGE_STEPS = 4
"""Filters that the time to live is divided into: an item returns at most a quarter of it late."""
COUNT_STEPS = 4
"""Filters that the capacity is divided into."""
GENERATIONS = AGE_STEPS + COUNT_STEPS
MARGIN = 0.9
"""Of the error rate: the formula is a limit, from which real filters are a few percent away (Bose et al. 2008)."""

_SIGNATURE = struct.Struct("<2sHII")
_ROWS = struct.Struct("<" + "4I" * GENERATIONS)
_ROWS_AT = _SIGNATURE.size + 4
HEADER_BYTES = _ROWS_AT + _ROWS.size

_WEIGHTS = (1 << np.arange(GENERATIONS)).astype(np.uint8)[:, None]  # [G, 1]; a generation a bit of a byte


@dataclass(frozen=True)
class SeenShape:
    """How many interactions of a user stay hidden, and how often a filter may be wrong about an item not seen."""

    capacity: int = 1000
    error_rate: float = 0.01

    def __post_init__(self) -> None:
        BloomShape(self.capacity, self.error_rate)  # raises ValueError on impossible numbers

    @cached_property
    def filter(self) -> BloomShape:
        """Each generation."""
        return BloomShape(math.ceil(self.capacity / COUNT_STEPS), MARGIN * self.error_rate / GENERATIONS)

    @cached_property
    def filter_bytes(self) -> int:
        """Of one generation."""
        return self.filter.bits // 8

    @property
    def most_bytes(self) -> int:
        """A user's string never grows beyond this."""
        return HEADER_BYTES + GENERATIONS * self.filter_bytes

    @cached_property
    def signature(self) -> bytes:
        """By which a string of this shape is known."""
        return _SIGNATURE.pack(b"G1", self.filter.hashes, self.filter.bits, self.filter.capacity)

    def arguments(self, ttl_s: float) -> tuple[float | int | bytes, ...]:
        """Of HIDE: the span of a filter in seconds, its items, its bytes, the signature."""
        return ttl_s / AGE_STEPS, self.filter.capacity, self.filter_bytes, self.signature

    def held(self, stored: bytes | None, bits: Bits, since: float) -> NDArray[np.bool_]:
        """Which items a user's string holds, bool [N]. No string, or one of another shape: none.

        Args:
            stored: the whole string
            bits: of the items, int32 [k, N], of the shape `filter`
            since: UTC seconds; filters whose newest item is not later count no more
        """
        if not stored or not stored.startswith(self.signature):
            return np.zeros(bits.shape[1], np.bool_)
        flags = np.unpackbits(np.frombuffer(stored, np.uint8, offset=HEADER_BYTES)).reshape(-1, self.filter.bits)
        rows = _ROWS.unpack_from(stored, _ROWS_AT)
        alive = [place for place in range(len(flags)) if rows[4 * place + 1] and rows[4 * place + 3] > since]
        if len(alive) < len(flags):
            flags = flags[alive]
        # Bit g of a byte: what generation g says of that position. One look-up then asks all generations at once.
        together = np.bitwise_or.reduce(flags * _WEIGHTS[: len(flags)], axis=0)  # uint8 [m]
        # uint8 [N]: the generations that hold the item
        claims: NDArray[np.uint8] = np.bitwise_and.reduce(together.take(bits), axis=0)
        return claims.astype(np.bool_)


_HIDE = """
local function hide(key, now, ttl, span, most, size, signature, first, last)
    local stamp = math.ceil(now)
    local head = redis.call('GETRANGE', key, 0, @HEADER - 1)
    local place, number, items, begun, latest = 0, 1, 0, stamp, stamp
    if #head < @HEADER or string.sub(head, 1, #signature) ~= signature then
        redis.call('SET', key, signature .. string.rep('\0', @HEADER - #signature + size))
    else
        place = struct.unpack('<I4', head, @NEWEST + 1)
        number, items, begun, latest = struct.unpack('<I4I4I4I4', head, @ROWS + 16 * place + 1)
        if items >= most or now - begun >= span then
            number, items, begun, latest = number + 1, 0, stamp, stamp
            local oldest = number
            for i = 0, @GENERATIONS - 1 do
                local other, held, _, met = struct.unpack('<I4I4I4I4', head, @ROWS + 16 * i + 1)
                if held == 0 or met + ttl <= now then
                    place = i
                    break
                elseif other < oldest then
                    oldest, place = other, i
                end
            end
            -- SET and not SETRANGE beyond the end: a string that is grown in place takes twice its size
            local at = @HEADER + size * place
            local whole = redis.call('GET', key)
            redis.call('SET', key, string.sub(whole, 1, @NEWEST) .. struct.pack('<I4', place)
                .. string.sub(whole, @NEWEST + 5, at) .. string.rep('\0', size) .. string.sub(whole, at + size + 1))
        end
    end
    local call, base = {'BITFIELD', key}, 8 * (@HEADER + size * place)
    local n = 2
    for i = first, last do
        call[n + 1], call[n + 2], call[n + 3], call[n + 4] = 'SET', 'u1', string.format('%d', base + ARGV[i]), '1'
        n = n + 4
    end
    for _, before in ipairs(redis.call(unpack(call))) do
        if before == 0 then
            items = items + 1
            break
        end
    end
    local row = struct.pack('<I4I4I4I4', number, items, begun, math.max(latest, stamp))
    redis.call('SETRANGE', key, @ROWS + 16 * place, row)
    redis.call('EXPIRE', key, ttl)
end
"""
_NUMBERS = {
    "@HEADER": HEADER_BYTES, "@NEWEST": _SIGNATURE.size, "@ROWS": _ROWS_AT, "@GENERATIONS": GENERATIONS
}  # fmt: skip
for _name, _number in _NUMBERS.items():
    _HIDE = _HIDE.replace(_name, str(_number))

HIDE = _HIDE
"""Lua: `hide(key, now, ttl, span, most, size, signature, first, last)` puts the item whose bits of one filter are
ARGV[first] … ARGV[last] into the newest generation, where needed a new one, and sets the time to live. `now`: UTC
seconds. For scripts that do more in the same step."""
