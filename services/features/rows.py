"""From entries of the streams to rows of the data contract, or to the reason why not."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import get_args

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from cascade.api.common import EventType, Id, Timestamp
from cascade.api.impressions import Impression
from cascade.data.contract import IMPRESSIONS_CONTRACT, INTERACTIONS_CONTRACT
from cascade.data.shown_lists import EVENT_ID, SCORE, SERVED, VERSIONS
from cascade.features.spec import DEVICES
from cascade.online.interactions import Event
from cascade.online.streams import Entry
from services.features.errors import Unusable

Catalog = Mapping[str, str | None]
"""item id → category_l1"""

EVENT_SCHEMA = INTERACTIONS_CONTRACT.schema.append(EVENT_ID).append(pa.field("request_id", pa.string()))
IMPRESSION_SCHEMA = pa.schema(
    [
        *IMPRESSIONS_CONTRACT.schema,
        EVENT_ID,
        SCORE,
        VERSIONS,
        pa.field("track", pa.string(), nullable=False),
        pa.field("assigned", pa.string()),
        SERVED,
    ]
)

_EVENT_TYPES = frozenset(get_args(EventType))
_id: TypeAdapter[str] = TypeAdapter(Id)
_timestamp: TypeAdapter[int] = TypeAdapter(Timestamp)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is asked of a list while it waits for its clicks.

    All else stays in its entry as it came: read, it would take five times the memory, and a minute's lists wait.
    """

    request_id: str
    user_id: str
    timestamp: int


def event_of(entry: Entry, catalog: Catalog) -> Event:
    """The interaction that an entry holds. Raises Unusable: the dataset would not keep its contract with it."""
    try:
        event = Event.from_fields({name.decode(): value.decode() for name, value in entry.fields.items()})
        _id.validate_python(event.user_id)
        _timestamp.validate_python(event.timestamp)
    except KeyError as error:
        raise Unusable(f"not an event: the field {error} is missing") from error
    except ValidationError as error:
        raise Unusable(f"not an event: {_first(error)}") from error
    except ValueError as error:
        raise Unusable(f"not an event: {error}") from error
    if event.event_type not in _EVENT_TYPES:
        raise Unusable(f"unknown event type {event.event_type!r}")
    _require_device(event.device_type)
    _require_items([event.item_id], catalog)
    return event


def waiting_of(entry: Entry, catalog: Catalog) -> Waiting:
    """The list that an entry holds, found to be one. Raises Unusable likewise."""
    impression = impression_of(entry)
    _require_device(impression.device_type)
    _require_items([item.item_id for item in impression.items], catalog)
    return Waiting(impression.request_id, impression.user_id, impression.timestamp)


def impression_of(entry: Entry) -> Impression:
    """The message that an entry holds. Raises Unusable where it holds none."""
    payload = entry.fields.get(b"payload")
    if payload is None:
        raise Unusable("not an impression: the field 'payload' is missing")
    try:
        return Impression.model_validate_json(payload)
    except ValidationError as error:
        raise Unusable(f"not an impression: {_first(error)}") from error


def event_table(events: Sequence[tuple[str, Event]]) -> pa.Table:
    """Rows of (event id, event)."""
    columns = {
        name: [getattr(event, name) for _, event in events] for name in EVENT_SCHEMA.names if name != EVENT_ID.name
    }
    return pa.table({**columns, EVENT_ID.name: [event_id for event_id, _ in events]}, schema=EVENT_SCHEMA)


def impression_table(impressions: Sequence[tuple[str, Impression]], clicked: Mapping[str, Collection[str]]) -> pa.Table:
    """One row an item shown. clicked: request id → items of it that were clicked."""
    columns: dict[str, list[object]] = {name: [] for name in IMPRESSION_SCHEMA.names}
    for event_id, shown in impressions:
        clicks = clicked.get(shown.request_id, ())
        of_the_list = {
            "request_id": shown.request_id,
            "user_id": shown.user_id,
            "timestamp": shown.timestamp,
            "device_type": shown.device_type,
            "event_id": event_id,
            "versions": json.dumps(shown.versions, sort_keys=True),
            "track": json.dumps(shown.tracks, sort_keys=True),
            "assigned": json.dumps(shown.assigned, sort_keys=True) if shown.assigned else None,
            SERVED.name: None if shown.served is None else shown.served.model_dump(),
        }
        for name, value in of_the_list.items():
            columns[name] += [value] * len(shown.items)
        columns["item_id"] += [item.item_id for item in shown.items]
        columns["position"] += [item.position for item in shown.items]
        columns["propensity"] += [item.propensity for item in shown.items]
        columns["score"] += [item.score for item in shown.items]
        columns["clicked"] += [item.item_id in clicks for item in shown.items]
    return pa.table(columns, schema=IMPRESSION_SCHEMA)


def day_of(timestamp: int) -> date:
    """The UTC day of a moment in UTC seconds."""
    return datetime.fromtimestamp(timestamp, UTC).date()


def _require_device(device: str | None) -> None:
    if device is not None and device not in DEVICES:
        raise Unusable(f"unknown device {device!r}; the contract knows {', '.join(DEVICES)} and null")


def _require_items(item_ids: Sequence[str], catalog: Catalog) -> None:
    unknown = [item_id for item_id in item_ids if item_id not in catalog]
    if unknown:
        raise Unusable(f"unknown item {unknown[0]!r}: the catalog does not hold it")


def _first(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['msg']}" if where else fault["msg"]
