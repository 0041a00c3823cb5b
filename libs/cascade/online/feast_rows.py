"""Rows of Feast's online store in Redis, written in bulk as Feast writes them, so that Feast reads them.

Feast builds four protobuf objects a row and reads every row's old timestamp before it writes; here hundreds of rows are
one command, and the values of a column are encoded once each. Feast's format
(docs/specs/online_store_format.md in its repository; entity key serialisation 3), held to Feast's own code by tests:

    key      u32 number of join keys, (u32 STRING, u32 length, name) each; u32 STRING, u32 length, user id; the project
    hash     murmur3 of "<view>:<feature>", 4 bytes little-endian → a Value; "_ts:<view>" → the event's Timestamp
    Value    protobuf: nothing for null, field 2 for a string, field 5 for a double; numbers of other types are read too

Importing Feast takes seconds and 200 MB; so what serves a request writes and reads its format by this module alone.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mmh3
from redis import Redis

from cascade.online.errors import FeatureValueUnreadable
from cascade.online.feast_config import ENTITY, PROJECT

FeatureValue = str | float | None

_STRING = 2  # ValueType.STRING
_KEY = struct.pack(f"<III{len(ENTITY)}sI", 1, _STRING, len(ENTITY), ENTITY.encode(), _STRING)
_PROJECT = PROJECT.encode()
# A Value's first byte: field number and wire type. Strings; double and float; int32, int64 and bool.
_TEXT = 0x12
_INTEGERS = {0x18: range(-(1 << 31), 1 << 31), 0x20: range(-(1 << 63), 1 << 63), 0x38: range(2)}
_FIXED = {0x29: struct.Struct("<d"), 0x35: struct.Struct("<f")}
_NULL = b"\x98\x01\x00"
_CHUNK = 500
"""Rows of one command: it takes one sync of the append-only file, where a pipeline takes one for every few rows that
arrive together; and it holds the server for a few milliseconds."""

# KEYS: the hashes of users. ARGV: "1" to leave alone what is of a later event, the number of fields and values of a
# row; then of each row seconds and nanoseconds of its event, and fields and values, "_ts:<view>" the first.
# Reading and writing are one step: a push between them would be lost. Returns how many rows were written.
_WRITE = """
local function later(stored, seconds, nanos)
    local parts, at = {0, 0}, 1
    while at <= #stored do
        local field, value, scale, byte = math.floor(string.byte(stored, at) / 8), 0, 1, nil
        repeat
            at = at + 1
            byte = string.byte(stored, at)
            value, scale = value + byte % 128 * scale, scale * 128
        until byte < 128
        parts[field], at = value, at + 1
    end
    return parts[1] > seconds or (parts[1] == seconds and parts[2] > nanos)
end
local keep, width, written = ARGV[1] == '1', tonumber(ARGV[2]), 0
for row, key in ipairs(KEYS) do
    local at = 3 + (row - 1) * (width + 2)
    local stored = keep and redis.call('HGET', key, ARGV[at + 2])
    if not stored or stored == ARGV[at + 3] or not later(stored, tonumber(ARGV[at]), tonumber(ARGV[at + 1])) then
        redis.call('HSET', key, unpack(ARGV, at + 2, at + 1 + width))
        written = written + 1
    end
end
return written
"""


@dataclass(frozen=True)
class ViewRows:
    """Rows of one feature view.

    user_ids: N users
    moments: of N events, microseconds since 1970, not before
    features: name → N values; integers count as doubles
    """

    view: str
    user_ids: Sequence[str]
    moments: Sequence[int]
    features: Mapping[str, Sequence[FeatureValue]]

    def __post_init__(self) -> None:
        lengths = {"moments": len(self.moments), **{name: len(values) for name, values in self.features.items()}}
        for name, length in lengths.items():
            if length != len(self.user_ids):
                raise ValueError(f"{length} {name} of {len(self.user_ids)} users of {self.view}: give one each")


def write_rows(client: Redis, rows: ViewRows, *, keep_later: bool = True) -> int:
    """Write them; returns how many were written. Raises what the client raises, some of them being written then.

    keep_later: a row stays where its stored event is later (of the same moment, the new values win: Feast would keep
        the old ones, and a build whose settings were changed would change nothing)
    """
    encoded = {moment: encode_timestamp(moment) for moment in set(rows.moments)}
    stamps = [(moment // 1_000_000, moment % 1_000_000 * 1000, encoded[moment]) for moment in rows.moments]
    values = list(zip(*map(_each, rows.features.values()), strict=True))
    stamp_field, fields = timestamp_field(rows.view), [feature_field(rows.view, name) for name in rows.features]
    script, written = client.register_script(_WRITE), 0
    for start in range(0, len(rows.user_ids), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        arguments: list[Any] = [int(keep_later), 2 + 2 * len(fields)]
        for (seconds, nanos, stamp), some in zip(stamps[chunk], values[chunk], strict=True):
            arguments += (seconds, nanos, stamp_field, stamp)
            for field, value in zip(fields, some, strict=True):
                arguments += (field, value)
        written += int(script(keys=list(map(row_key, rows.user_ids[chunk])), args=arguments))
    return written


def row_key(user_id: str) -> bytes:
    """The key of the hash that holds all features of a user."""
    encoded = user_id.encode()
    return b"%b%b%b%b" % (_KEY, struct.pack("<I", len(encoded)), encoded, _PROJECT)


def user_of(key: bytes) -> str | None:
    """The user of a hash that holds features; None for a key of something else."""
    at = len(_KEY) + 4
    if not key.startswith(_KEY) or not key.endswith(_PROJECT) or len(key) < at + len(_PROJECT):
        return None
    encoded = key[at : len(key) - len(_PROJECT)]
    if struct.unpack("<I", key[len(_KEY) : at])[0] != len(encoded):
        return None
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        return None


def feature_field(view: str, feature: str) -> bytes:
    """The field of a feature."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def timestamp_field(view: str) -> bytes:
    """The field of a view's event time."""
    return f"_ts:{view}".encode()


def encode_value(value: FeatureValue) -> bytes:
    """Feast's Value of a string, a number (as a double) or null (NaN too)."""
    if isinstance(value, str):
        encoded = value.encode()
        return b"\x12" + _varint(len(encoded)) + encoded
    if value is None or math.isnan(value):
        return b""
    return b"\x29" + struct.pack("<d", value)


def decode_value(stored: bytes | None) -> FeatureValue:
    """What Feast's Value holds: a string, a number of any of its types, or null (also where nothing is stored).

    Raises FeatureValueUnreadable on any other type, and on bytes that are not one Value.
    """
    if not stored or stored == _NULL:
        return None
    tag, body = stored[0], stored[1:]
    try:
        if tag == _TEXT:
            length, at = _read_varint(body)
            if len(body) - at == length:
                return body[at:].decode()
        elif tag in _FIXED:
            return float(_FIXED[tag].unpack(body)[0])
        elif tag in _INTEGERS:
            number, at = _read_varint(body)
            number -= (1 << 64) if number >> 63 else 0
            if at == len(body) and number in _INTEGERS[tag]:
                return number
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise FeatureValueUnreadable(stored) from error
    raise FeatureValueUnreadable(stored)


def encode_timestamp(moment: int) -> bytes:
    """Protobuf's Timestamp of microseconds since 1970."""
    seconds, micros = divmod(moment, 1_000_000)
    return (b"\x08" + _varint(seconds) if seconds else b"") + (b"\x10" + _varint(1000 * micros) if micros else b"")


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _read_varint(encoded: bytes) -> tuple[int, int]:
    """A number and how many bytes it took. Raises IndexError where it does not end within the ten that it may have."""
    encoded, value, at = encoded[:10], 0, 0
    while encoded[at] > 127:
        value |= (encoded[at] & 127) << 7 * at
        at += 1
    return value | encoded[at] << 7 * at, at + 1


def _each(values: Sequence[FeatureValue]) -> list[bytes]:
    """A column encoded; each value of it once."""
    known = {value: encode_value(value) for value in set(values)}
    return [known[value] for value in values]
