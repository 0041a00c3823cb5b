"""What waits in the worker's memory."""

from __future__ import annotations

import json
import tracemalloc

from cascade.online.streams import Entry
from services.features.rows import impression_of, waiting_of

CATALOG = {f"item-{number:03d}": "c" for number in range(100)}


def entry(number: int) -> Entry:
    items = [
        {"item_id": f"item-{(7 * number + at) % 100:03d}", "position": at, "score": 0.1 + at, "propensity": 1.0}
        for at in range(10)
    ]
    payload = {
        "request_id": f"{number:032x}", "user_id": f"user-{number}", "timestamp": 1_768_204_800,
        "device_type": "mobile", "items": items, "versions": {"ranker": "v1"}, "tracks": {"ranker": "stable"},
    }  # fmt: skip
    return Entry(f"{number}-0", {b"payload": json.dumps(payload).encode()})


def test_a_list_that_waits_takes_little_more_than_its_message() -> None:
    """The worker's bound is a number of lists (`most_held`): what each takes decides whether it is one."""
    waiting_of(entry(0), CATALOG)
    tracemalloc.start()
    try:
        kept = [(one, waiting_of(one, CATALOG)) for one in map(entry, range(500))]
        each = tracemalloc.get_traced_memory()[0] / len(kept)
    finally:
        tracemalloc.stop()
    assert each < len(kept[-1][0].fields[b"payload"]) + 1200


def test_it_is_read_again_when_it_is_written() -> None:
    shown, waits = impression_of(entry(3)), waiting_of(entry(3), CATALOG)
    assert (waits.request_id, waits.user_id, waits.timestamp) == (shown.request_id, shown.user_id, shown.timestamp)
    assert [item.item_id for item in shown.items][:2] == ["item-021", "item-022"]
