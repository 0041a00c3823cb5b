"""Server-sent events as the gateway tells them (the HTML standard's text/event-stream)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cascade.client.errors import Garbled


@dataclass(frozen=True)
class Event:
    """One event. data: whatever JSON it carries"""

    name: str
    data: Any


class EventReader:
    """Makes events of lines, whoever reads them off the connection."""

    def __init__(self) -> None:
        self._name = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Event | None:
        """The event that this line ends, if it ends one. Raises Garbled where its data is no JSON."""
        if line:
            self._note(line)
            return None
        name, data = self._name, "\n".join(self._data)
        self._name, self._data = "", []
        if not data:
            return None
        try:
            return Event(name or "message", json.loads(data))
        except ValueError as error:
            raise Garbled(f"the event {name!r} holds {data[:100]!r}, which is no JSON") from error

    def _note(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        # else a comment, which keeps the connection, or how long a page should wait before it asks again
