"""API keys: what a key is, the file that holds their hashes, and the ring that recognises them.

A key is `cascade_<id>_<secret>`. The secret has 256 bits and is shown once, when the key is made; the file holds the
SHA-256 of the whole key. A slow hash would add nothing: nobody guesses 256 bits. The id is no secret and may be logged.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from cascade.access.errors import KeyFileUnreadable, UnknownKey
from cascade.files import replacing

_PREFIX = b"cascade_"
_ID_BYTES, _SECRET_BYTES = 4, 32
_ID_END = len(_PREFIX) + 2 * _ID_BYTES
_LONGEST = 256
_NOBODY = hashlib.sha256(secrets.token_bytes(_SECRET_BYTES)).hexdigest()
"""Compared with where no key has the id, so that an unknown id takes the time of a known one."""


class Scope(StrEnum):
    """What a key may be used for. None includes another."""

    recommend = "recommend"
    interact = "interact"
    admin = "admin"


class ApiKey(BaseModel):
    """A key as it is kept.

    sha256: hex digest of the whole key
    rate, burst: requests a second, and at once, that it may make; none: the gateway's own numbers
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{2 * _ID_BYTES}}}$")]
    name: Annotated[str, Field(min_length=1, max_length=100)]
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: AwareDatetime
    expires: AwareDatetime | None = None
    rate: Annotated[float, Field(gt=0)] | None = None
    burst: Annotated[int, Field(ge=1)] | None = None


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    keys: list[ApiKey]


def make_key(
    name: str,
    scopes: Iterable[Scope],
    *,
    expires: datetime | None = None,
    rate: float | None = None,
    burst: int | None = None,
) -> tuple[str, ApiKey]:
    """A new key: the text that its holder gets, and what is kept of it."""
    key_id = secrets.token_hex(_ID_BYTES)
    text = f"{_PREFIX.decode()}{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    kept = ApiKey(
        id=key_id,
        name=name,
        scopes=frozenset(scopes),
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        created=datetime.now(UTC).replace(microsecond=0),
        expires=expires,
        rate=rate,
        burst=burst,
    )
    return text, kept


class KeyFile:
    """The file of keys: JSON, replaced whole, readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[ApiKey]:
        """Every key. Raises KeyFileUnreadable."""
        try:
            keys = _Content.model_validate_json(self.path.read_bytes()).keys
        except OSError as error:
            raise KeyFileUnreadable(f"{self.path} cannot be read ({type(error).__name__})") from error
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, fault["loc"]))
            raise KeyFileUnreadable(f"{self.path} is no file of keys: {where} {fault['msg']}".rstrip()) from error
        if len({key.id for key in keys}) < len(keys):
            raise KeyFileUnreadable(f"{self.path} holds two keys of one id; revoke one")
        return keys

    def add(self, key: ApiKey) -> None:
        """Keep a key. Raises KeyFileUnreadable."""
        with self._locked():
            self._write([*(self.read() if self.path.exists() else []), key])

    def revoke(self, key_id: str) -> ApiKey:
        """Remove a key and return what was kept of it. Raises UnknownKey, KeyFileUnreadable."""
        with self._locked():
            keys = self.read()
            found = next((key for key in keys if key.id == key_id), None)
            if found is None:
                raise UnknownKey(f"no key has the id {key_id!r}; there are {', '.join(k.id for k in keys) or 'none'}")
            self._write([key for key in keys if key is not found])
            return found

    def _write(self, keys: list[ApiKey]) -> None:
        with replacing(self.path) as beside:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(_Content(keys=keys).model_dump_json(indent=2, exclude_none=True) + "\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f".{self.path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class KeyRing:
    """Recognises keys."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys = {key.id.encode(): key for key in keys}

    def __len__(self) -> int:
        return len(self._keys)

    def has(self, scope: Scope) -> bool:
        """Whether any key, expired ones too, has the scope."""
        return any(scope in key.scopes for key in self._keys.values())

    def find(self, offered: bytes, now: float | None = None) -> ApiKey | None:
        """The key that this text is, unless it has expired. The time taken tells nothing of the secret.

        now: UTC seconds; none: the clock's
        """
        if len(offered) > _LONGEST:
            return None
        key = self._keys.get(offered[len(_PREFIX) : _ID_END])
        digest = hashlib.sha256(offered).hexdigest()
        if not hmac.compare_digest(digest, _NOBODY if key is None else key.sha256) or key is None:
            return None
        if key.expires is not None and key.expires.timestamp() <= (time.time() if now is None else now):
            return None
        return key
