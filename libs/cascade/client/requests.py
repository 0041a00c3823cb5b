"""Calls as requests on the wire: what the sync and the async client share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from cascade.client.calls import Call
from cascade.client.errors import ClientError, InvalidAddress, NoAnswer

QUIET_S = 60.0
"""A stream of events tells something, if only that it is there, at least every quarter of this."""

_LIKE = "http://127.0.0.1:8000"


class Requests:
    """Makes requests. base_url: of the gateway; api_key: sent with every call

    Raises InvalidAddress.
    """

    def __init__(self, base_url: str, api_key: str | None) -> None:
        try:
            parts = httpx.URL(base_url)
        except httpx.InvalidURL as error:
            raise InvalidAddress(f"{base_url!r} is no address ({error}); give one like {_LIKE}") from error
        if parts.scheme not in ("http", "https") or not parts.host:
            raise InvalidAddress(f"{base_url!r} is no address of a gateway; give one like {_LIKE}")
        self.base_url = base_url
        self._api_key = api_key

    def arguments(self, call: Call[Any], timeout: float | httpx.Timeout) -> Mapping[str, Any]:
        """What httpx's `request` and `stream` take."""
        headers = dict(call.headers)
        if call.content is not None:
            headers["content-type"] = "application/json"
        if self._api_key is not None:
            headers["authorization"] = f"Bearer {self._api_key}"
        return {
            "method": call.operation.method,
            "url": call.path,
            "params": call.query,
            "content": call.content,
            "headers": headers,
            "timeout": timeout,
        }

    def failure(self, call: Call[Any], error: httpx.HTTPError) -> ClientError:
        """What no answer means."""
        what = f"{call.operation.method} {call.operation.path}"
        if isinstance(error, httpx.TimeoutException):
            return NoAnswer(f"{self.base_url} did not answer {what} in time ({type(error).__name__})")
        return NoAnswer(f"{self.base_url} did not answer {what}: {error or type(error).__name__}; is a gateway there?")


def stream_timeout(timeout_s: float) -> httpx.Timeout:
    """Of a stream: as patient as it may be quiet."""
    return httpx.Timeout(timeout_s, read=QUIET_S)
