"""Fields that several messages share."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_ID_LENGTH = 128
MAX_CANDIDATES = 1000
MAX_K = 100
MAX_RECENT = 200
MAX_TIMESTAMP_S = 4_102_444_800  # 2100-01-01

ID_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]+$"


def _normalised(value: str) -> str:
    if not (value.isascii() or unicodedata.is_normalized("NFC", value)):
        raise ValueError("an id is in Unicode's form NFC, so that what looks alike is alike; normalise it")
    return value


Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH, pattern=ID_PATTERN), AfterValidator(_normalised)]
"""A shop's own user or item id: any text in form NFC without control characters."""

CandidateIds = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]], Field(max_length=MAX_CANDIDATES)
]
"""Ids that come from a bundle. Their characters were checked when the shop's data was: 300 matches a request cost as
much as parsing it."""

Timestamp = Annotated[int, Field(ge=0, le=MAX_TIMESTAMP_S, description="UTC seconds since 1970")]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Milliseconds = Annotated[float, Field(ge=0.0, description="milliseconds")]
Track = Literal["stable", "canary"]
EventType = Literal["view", "click", "add_to_cart", "purchase", "not_interested"]


class Message(BaseModel):
    """Base of every message: unknown fields are refused, so that a misspelt one is told and not ignored.

    Its strings are not cached. pydantic would keep up to 16,384 in a process, ids of visitors and events among them;
    300 ids are read in 26 µs instead of 31, and in 22 instead of 40 where a shop has a million.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, cache_strings="keys")


class Question(Message):
    """Base of what is asked: no value is read as one of another type (a JSON `true` is no number, `1` no boolean)."""

    model_config = ConfigDict(strict=True)


class UserFeatures(Question):
    """What the online store knows of a user; unknown values are null and become OOV or the mean age."""

    user_id: Id
    age: Annotated[float, Field(ge=0, le=130)] | None = None
    gender: Annotated[str, Field(max_length=MAX_ID_LENGTH)] | None = None
    top_category: Annotated[str, Field(max_length=MAX_ID_LENGTH)] | None = None
    recent: Annotated[
        list[Annotated[str, Field(max_length=MAX_ID_LENGTH + 64)]],
        Field(
            max_length=MAX_RECENT,
            description="latest interactions as `timestamp|event_type|item_id` (UTC seconds), newest first",
        ),
    ] = []


class Context(Question):
    """When and on what a request is made. An unknown device is out-of-vocabulary, not an error."""

    device_type: Annotated[str, Field(max_length=MAX_ID_LENGTH)] | None = None
    timestamp: Timestamp


class StageTiming(Message):
    """Where a service spent its time on one request."""

    queue_ms: Milliseconds
    compute_ms: Milliseconds


def recent_parts(entry: str) -> tuple[int, str, str]:
    """UTC seconds, event type and item id of an entry of `UserFeatures.recent`; an id may hold the separator itself.

    Raises ValueError on text that is no such entry.
    """
    timestamp, event_type, item_id = entry.split("|", 2)
    return int(timestamp), event_type, item_id
