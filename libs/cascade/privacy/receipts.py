"""What was asked to be forgotten, and what has been done of it: one hash in Redis a request, told to whoever asked.

`begin` is one transaction: from then on nothing new of the user is taken, what the online store holds is gone, and the
rest is queued for the features worker. A receipt holds the digest of the user and never the id; the id is in the queue
until the work is done, since files are searched by it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import redis.asyncio
from redis import Redis

from cascade.online import keys
from cascade.online.connection import store_errors
from cascade.online.errors import OnlineError
from cascade.online.feast_rows import row_key
from cascade.privacy.suppression import digest_of

PENDING, DONE = "pending", "done"
_LOCK_S = 60


class NoSuchReceipt(OnlineError):
    """No receipt has this id, or it is older than they are kept."""

    def __init__(self, receipt: str) -> None:
        super().__init__(f"no receipt {receipt!r}; receipts are kept for {keys.RECEIPT_TTL_S // keys.DAY_S} days")


async def begin(client: redis.asyncio.Redis, user_id: str) -> dict[str, Any]:
    """Forget a user online, keep the id out from now on, and queue the rest; → the receipt.

    Asked again it does all of it again, under a receipt of its own. Raises OnlineStoreDown: then nothing was done.
    """
    commands: Any = client  # the client's types mix sync and async results
    receipt = secrets.token_hex(8)
    record = {"user": digest_of(user_id), "asked": _now(), "status": PENDING}
    history = keys.seen(user_id), keys.recent(user_id), keys.seen_before_generations(user_id)
    with store_errors("forgetting a user"):
        async with client.pipeline(transaction=True) as step:
            step.sadd(keys.SUPPRESSED, digest_of(user_id))
            step.unlink(*history)
            step.unlink(row_key(user_id))
            step.hset(keys.FORGETTINGS, receipt, user_id)
            step.hset(keys.receipt(receipt), mapping=record)
            step.expire(keys.receipt(receipt), keys.RECEIPT_TTL_S)
            _, met, features, *_ = await step.execute()
        record["online"] = json.dumps({"history": int(met), "features": int(features)})
        await commands.hset(keys.receipt(receipt), "online", record["online"])
    return _told(receipt, record)


async def read(client: redis.asyncio.Redis, receipt: str) -> dict[str, Any]:
    """A receipt as it stands. Raises NoSuchReceipt, OnlineStoreDown."""
    commands: Any = client  # the client's types mix sync and async results
    with store_errors("reading a receipt"):
        found = await commands.hgetall(keys.receipt(receipt))
    if not found:
        raise NoSuchReceipt(receipt)
    return _told(receipt, {name.decode(): value.decode() for name, value in found.items()})


class Queue:
    """Requests whose work is open, for the one worker that holds the lock. Methods raise what the client raises."""

    def __init__(self, client: Redis, worker: str) -> None:
        self._client: Any = client
        self._worker = worker

    def open(self) -> dict[str, str]:
        """Receipt → user id."""
        return {name.decode(): user.decode() for name, user in self._client.hgetall(keys.FORGETTINGS).items()}

    def hold(self) -> bool:
        """Take or keep the lock: one worker at a time rewrites files. It ends by itself if this worker dies."""
        if self._client.set(keys.FORGETTING_LOCK, self._worker, nx=True, ex=_LOCK_S):
            return True
        if self._client.get(keys.FORGETTING_LOCK) != self._worker.encode():
            return False
        self._client.expire(keys.FORGETTING_LOCK, _LOCK_S)
        return True

    def release(self) -> None:
        """Let others work."""
        if self._client.get(keys.FORGETTING_LOCK) == self._worker.encode():
            self._client.delete(keys.FORGETTING_LOCK)

    def asked(self, receipt: str) -> datetime | None:
        """When it was asked for; None for a receipt that is gone."""
        found = self._client.hget(keys.receipt(receipt), "asked")
        return None if found is None else datetime.fromisoformat(found.decode())

    def done(self, receipt: str, work: Mapping[str, object]) -> None:
        """Close a request with what was removed; the id leaves the queue by the same step."""
        with self._client.pipeline(transaction=True) as step:
            step.hset(
                keys.receipt(receipt), mapping={"status": DONE, "finished": _now(), "work": json.dumps(dict(work))}
            )
            step.expire(keys.receipt(receipt), keys.RECEIPT_TTL_S)
            step.hdel(keys.FORGETTINGS, receipt)
            step.execute()

    def remark(self, receipt: str, text: str) -> None:
        """Add to what a receipt says."""
        found = self._client.hget(keys.receipt(receipt), "work")
        if found is not None:
            work = json.loads(found)
            work["remarks"] = [*work.get("remarks", []), text]
            self._client.hset(keys.receipt(receipt), "work", json.dumps(work))


def _told(receipt: str, record: Mapping[str, str]) -> dict[str, Any]:
    work = json.loads(record["work"]) if "work" in record else {}
    return {
        "receipt": receipt,
        "status": record["status"],
        "user": record["user"],
        "asked": record["asked"],
        "finished": record.get("finished"),
        "removed": {**json.loads(record.get("online", "{}")), **work.get("removed", {})},
        "days": work.get("days", []),
        "checkpoints": work.get("checkpoints", []),
        "remarks": work.get("remarks", []),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
