"""Every Redis key of Cascade, its type, unit and time to live. No other module spells a key.

| key | type | holds | time to live |
| --- | --- | --- | --- |
| cascade:met:{user} | string | items seen: generations of Bloom filters | `seen_ttl_s` (7 days), from the last (1) |
| cascade:seen:{user} | string | one bitmap, of earlier releases: not read, removed with the user | what it has left |
| cascade:recent:{user} | list | `timestamp_s|event_type|item_id`, newest first, at most RECENT_MAX | `seen_ttl_s` |
| cascade:events | stream | one entry an interaction | trimmed by its readers |
| cascade:impressions | stream | one entry a list shown: `payload`, JSON of api.impressions | trimmed likewise |
| cascade:dead-letters | stream | what could not be used: `stream`, `id`, `reason`, `tries`, `entry.<field>` | length |
| cascade:clicked:{request} | set | item ids clicked in the list of that request | CLICKED_TTL_S, from the last click |
| cascade:canary:{service}:{version}:{step} | set | users whose first list of the step counted | CANARY_USERS_TTL_S |
| cascade:written:{write} | string | id of the event that a write made, which may be sent again | WRITTEN_TTL_S |
| cascade:suppressed | set | SHA-256 of the ids of users who were forgotten | none |
| cascade:forgettings | hash | receipt → id of a user whose traces are still being removed | none: the work removes it |
| cascade:forgetting | string | the worker that removes them now | 60 s |
| cascade:forgotten:{receipt} | hash | what was removed where, of a user's digest | RECEIPT_TTL_S |
| cascade:rate:{key} | hash | tokens of an API key: `tokens`, `at` (UTC seconds) | until it is full again |
| cascade:popular:global | string | JSON [[item_id, count], …], best first | none: replaced by each build |
| cascade:popular:l1:{category} | string | the same, of one top-level category | none |
| cascade:popular:l2:{category} | string | the same, of one second-level category | none |
| cascade:drift | string | JSON of drift.report: the latest window's indices | none: replaced every hour |
| cascade:built:{asset} | string | digest of the build that wrote the asset's keys | none |

(1) Of the items in it each goes by its own age before the key does (generations.py).
Feast keeps its own keys (project name `cascade`, entity key serialisation 3); feast_rows.py writes them too.
"""

from __future__ import annotations

_PREFIX = "cascade"

DAY_S = 24 * 3600
SEEN_TTL_S = 7 * DAY_S
"""Default seconds for which an item a user met stays hidden."""

RECENT_MAX = 200
"""Recent items kept for each user."""

CLICKED_TTL_S = 6 * 3600
"""Seconds for which clicks on a list are remembered: far beyond the attribution window and a worker's outage."""

CANARY_USERS_TTL_S = 2 * DAY_S
"""Seconds after the last look at a canary's step for which it is known whose lists have counted."""

WRITTEN_TTL_S = 60
"""Seconds for which a write that is sent again is known: longer than any write may take."""

RECEIPT_TTL_S = 365 * DAY_S
"""Seconds for which it can be shown that a user was forgotten."""

EVENTS = f"{_PREFIX}:events"
IMPRESSIONS = f"{_PREFIX}:impressions"
DEAD_LETTERS = f"{_PREFIX}:dead-letters"
FEATURES_GROUP = "features"
"""Consumer group of the features worker, on both streams."""
SUPPRESSED = f"{_PREFIX}:suppressed"
FORGETTINGS = f"{_PREFIX}:forgettings"
FORGETTING_LOCK = f"{_PREFIX}:forgetting"
CANARY_USERS_PATTERN = f"{_PREFIX}:canary:*"
POPULAR_GLOBAL = f"{_PREFIX}:popular:global"
DRIFT = f"{_PREFIX}:drift"


def seen(user_id: str) -> str:
    """What the user saw: generations of Bloom filters, all in one string."""
    return f"{_PREFIX}:met:{user_id}"


def seen_before_generations(user_id: str) -> str:
    """Where releases before generations kept a bitmap. Nothing reads it; it ends by its time to live."""
    return f"{_PREFIX}:seen:{user_id}"


def recent(user_id: str) -> str:
    """List of the user's latest interactions, newest first."""
    return f"{_PREFIX}:recent:{user_id}"


def clicked(request_id: str) -> str:
    """Set of the items clicked in one list."""
    return f"{_PREFIX}:clicked:{request_id}"


def canary_users(service: str, version: str, step: int) -> str:
    """Set of the users who have counted in one step of a canary."""
    return f"{_PREFIX}:canary:{service}:{version}:{step}"


def receipt(receipt_id: str) -> str:
    """What was done of a user's forgetting."""
    return f"{_PREFIX}:forgotten:{receipt_id}"


def written(write_id: str) -> str:
    """What a write, named by its sender, has made already."""
    return f"{_PREFIX}:written:{write_id}"


def rate(key_id: str) -> str:
    """Token bucket of an API key."""
    return f"{_PREFIX}:rate:{key_id}"


def popular_l1(category: str) -> str:
    """Popular items of a top-level category."""
    return f"{_PREFIX}:popular:l1:{category}"


def popular_l2(category: str) -> str:
    """Popular items of a second-level category."""
    return f"{_PREFIX}:popular:l2:{category}"


def built(asset: str) -> str:
    """Digest of the build that last wrote the keys of an asset."""
    return f"{_PREFIX}:built:{asset}"
