"""The services behind the gateway, as ports: one kept-alive connection pool each.

On TCP the pool is aiohttp's under httpx's interface: plain httpx takes 850 µs a call on a kept-alive connection,
aiohttp 250 µs. Tests and the one-process mode hand in transports of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import quote

import httpx
from httpx_aiohttp import AiohttpTransport
from pydantic import BaseModel, ValidationError

from cascade.api.filter import FilterRequest, FilterResponse, ForgetResponse, SeenRequest, SeenResponse
from cascade.api.gateway import Stage
from cascade.api.ranker import RankRequest, RankResponse
from cascade.api.retrieval import RetrieveRequest, RetrieveResponse, SimilarRequest
from services.gateway.ports import StageBusy, StageDown, StageGarbled, StageLate, StageRefused

Answer = TypeVar("Answer", bound=BaseModel)
Headers = Callable[[], Mapping[str, str]]

_JSON = {"content-type": "application/json"}
_READY_TIMEOUT_S = 0.5  # below the second that a readiness probe usually has
_MAX_CONNECTIONS = 256
_KEEP_ALIVE_S = 30.0  # shorter than the services' own, so that no call meets a connection being closed


def tcp_transport() -> httpx.AsyncBaseTransport:
    """A pool of kept-alive TCP connections. Proxies of the environment are not used between services."""
    limits = httpx.Limits(
        max_connections=_MAX_CONNECTIONS,
        max_keepalive_connections=_MAX_CONNECTIONS,
        keepalive_expiry=_KEEP_ALIVE_S,
    )
    return AiohttpTransport(limits=limits, trust_env=False)


class ServiceClient:
    """Sends messages to one service and tells its failures apart.

    stage: the name its failures carry
    base_url: where it listens
    timeout_s: total time of a call in seconds, connecting included
    headers: headers of the request in hand (its request id), sent along on every call
    transport: how calls travel; None: TCP
    """

    def __init__(
        self,
        stage: Stage,
        base_url: str,
        timeout_s: float,
        headers: Headers,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.stage = stage
        self._timeout_s = timeout_s
        self._headers = headers
        self._http = httpx.AsyncClient(
            base_url=base_url, transport=transport or tcp_transport(), timeout=timeout_s, trust_env=False
        )

    async def post(self, path: str, message: BaseModel, answer: type[Answer], timeout_s: float | None = None) -> Answer:
        """POST a message and read the answer. Raises StageError."""
        response = await self._send("POST", path, message.model_dump_json().encode(), timeout_s)
        return self._read(response, answer)

    async def delete(self, path: str, answer: type[Answer], timeout_s: float | None = None) -> Answer:
        """DELETE a path and read the answer. Raises StageError."""
        return self._read(await self._send("DELETE", path, None, timeout_s), answer)

    async def state(self) -> str:
        """`ready`, `not ready` or `down`, as its readiness endpoint tells."""
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                response = await self._http.get("/readyz")
        except (TimeoutError, httpx.HTTPError, OSError):
            return "down"
        return "ready" if response.is_success else "not ready"

    async def aclose(self) -> None:
        """Close the pool."""
        await self._http.aclose()

    async def _send(self, method: str, path: str, content: bytes | None, timeout_s: float | None) -> httpx.Response:
        limit = timeout_s or self._timeout_s
        try:
            # httpx times each step of a call; this bounds their sum.
            async with asyncio.timeout(limit):
                response = await self._http.request(
                    method, path, content=content, headers={**_JSON, **self._headers()}, timeout=limit
                )
        except (TimeoutError, httpx.HTTPError, OSError) as error:
            if _is_timeout(error):
                raise StageLate(self.stage, f"no answer to {method} {path} within {limit:g} s") from error
            raise StageDown(self.stage, f"{method} {path} failed: {error or type(error).__name__}") from error
        if response.is_success:
            return response
        detail = f"{method} {path} answered {response.status_code}: {response.text[:300]}"
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise StageBusy(self.stage, detail, _retry_after_s(response))
        if response.is_client_error:
            raise StageRefused(self.stage, detail, response.status_code)
        raise StageDown(self.stage, detail)

    def _read(self, response: httpx.Response, answer: type[Answer]) -> Answer:
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            raise StageGarbled(
                self.stage, f"not a {answer.__name__}: {error.error_count()} faults, first {error.errors()[0]}"
            ) from error


def _is_timeout(error: Exception) -> bool:
    """Whether time ran out. The aiohttp transport calls a dropped connection a timeout too; its cause tells."""
    if isinstance(error, httpx.TimeoutException):
        return error.__cause__ is None or isinstance(error.__cause__, TimeoutError)
    return isinstance(error, TimeoutError)


def _retry_after_s(response: httpx.Response) -> int:
    value = response.headers.get("retry-after", "")
    return int(value) if value.isdecimal() else 1


class RetrievalClient:
    """The Retriever port over HTTP."""

    def __init__(self, service: ServiceClient) -> None:
        self._service = service

    async def retrieve(self, request: RetrieveRequest) -> RetrieveResponse:
        """See Retriever."""
        return await self._service.post("/v1/retrieve", request, RetrieveResponse)

    async def similar(self, request: SimilarRequest) -> RetrieveResponse:
        """See Retriever."""
        return await self._service.post("/v1/similar", request, RetrieveResponse)


class FilterClient:
    """The SeenFilter port over HTTP. Writes have more time than reads: nothing can stand in for them."""

    def __init__(self, service: ServiceClient, write_timeout_s: float) -> None:
        self._service = service
        self._write_timeout_s = write_timeout_s

    async def unseen(self, request: FilterRequest) -> FilterResponse:
        """See SeenFilter."""
        return await self._service.post("/v1/filter", request, FilterResponse)

    async def seen(self, request: SeenRequest) -> SeenResponse:
        """See SeenFilter."""
        return await self._service.post("/v1/seen", request, SeenResponse, self._write_timeout_s)

    async def forget(self, user_id: str) -> int:
        """See SeenFilter."""
        path = f"/v1/seen/{quote(user_id, safe='')}"
        return (await self._service.delete(path, ForgetResponse, self._write_timeout_s)).removed


class RankerClient:
    """The Ranker port over HTTP."""

    def __init__(self, service: ServiceClient) -> None:
        self._service = service

    async def rank(self, request: RankRequest) -> RankResponse:
        """See Ranker."""
        answer = await self._service.post("/v1/rank", request, RankResponse)
        counts = len(answer.item_ids), len(answer.scores), len(answer.propensities)
        if len(set(counts)) > 1:
            raise StageGarbled(self._service.stage, "{} ids with {} scores and {} propensities".format(*counts))
        return answer
