"""Headers that callers and services agree on, in lower case."""

from __future__ import annotations

REQUEST_ID_HEADER = "x-request-id"
"""A request's id: the caller's if it is sane, else one made here; every hop passes it on, every answer tells it."""

TRACK_HEADER = "x-cascade-track"
"""`ranker=canary, retrieval=stable`: which track of a service a recommendation asks for."""
