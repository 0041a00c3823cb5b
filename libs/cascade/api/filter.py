"""Messages of the filter service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cascade.api.common import CandidateIds, EventType, Id, Message, Question, StageTiming, Timestamp


class FilterRequest(Question):
    """POST /v1/filter: which of these items has the user not seen lately?"""

    user_id: Id
    item_ids: CandidateIds


class FilterResponse(Message):
    """The unseen ids in the order received, and how many were left out."""

    item_ids: list[str]
    dropped: int
    timing: StageTiming


class SeenRequest(Question):
    """POST /v1/seen: one interaction. Bloom filter, recent items and event stream change in one step."""

    user_id: Id
    item_id: Id
    timestamp: Timestamp
    event_type: EventType = "click"
    device_type: Annotated[str, Field(max_length=128)] | None = None
    request_id: Annotated[str, Field(max_length=128)] | None = None
    write_id: Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{16,64}$")] | None = None
    """the sender's name for this write: sent again within a minute, it has its effect once and the same answer"""


class SeenResponse(Message):
    """The event's id in the stream: the step is done."""

    event_id: str


class ForgetResponse(Message):
    """DELETE /v1/seen/{user_id}: how many keys of the user were removed."""

    removed: int
