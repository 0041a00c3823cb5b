"""The services behind the gateway, as ports: messages out, messages in, failures by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import quote
from uuid import uuid4

import orjson
from pydantic import BaseModel, ValidationError

from cascade import deadline, tracing
from cascade.api.explain import AttributionRequest, AttributionResponse
from cascade.api.filter import FilterRequest, FilterResponse, ForgetResponse, SeenRequest, SeenResponse
from cascade.api.gateway import Stage
from cascade.api.ranker import RankRequest, RankResponse
from cascade.api.retrieval import RetrieveRequest, RetrieveResponse, SimilarRequest
from cascade.online.errors import ForgottenUser
from cascade.serving.calls import Answer, Caller, CallError, CallLate
from cascade.serving.problems import FORGOTTEN_STATUS
from services.gateway.ports import StageBusy, StageDown, StageGarbled, StageLate, StageRefused

Message = TypeVar("Message", bound=BaseModel)
Headers = Callable[[], Mapping[str, str]]

_JSON = {"content-type": "application/json"}
_READY_TIMEOUT_S = 0.5  # below the second that a readiness probe usually has
_SHOWN = 300


class ServiceClient:
    """Sends messages to one service and tells its failures apart.

    stage: the name its failures carry
    caller: how calls travel
    timeout_s: total time of a call in seconds, connecting included; less where the request has less left
    headers: headers of the request in hand (its request id), sent along on every call
    """

    def __init__(self, stage: Stage, caller: Caller, timeout_s: float, headers: Headers) -> None:
        self.stage = stage
        self._caller = caller
        self._timeout_s = timeout_s
        self._headers = headers

    async def read(self, path: str, message: BaseModel, answer: type[Message]) -> Message:
        """POST a question, which another replica may be asked too. Raises StageError."""
        body = orjson.dumps(message, default=vars)  # valid already; pydantic's own writer takes four times as long
        return self._read(await self._send("POST", path, body, None, repeatable=True), answer)

    async def write(
        self, path: str, message: BaseModel, answer: type[Message], timeout_s: float | None = None
    ) -> Message:
        """POST a message whose effect is the same sent once or twice, and read the answer. Raises StageError."""
        body = orjson.dumps(message, default=vars)
        return self._read(await self._send("POST", path, body, timeout_s, repeatable=True), answer)

    async def delete(self, path: str, answer: type[Message], timeout_s: float | None = None) -> Message:
        """DELETE a path and read the answer. Raises StageError."""
        return self._read(await self._send("DELETE", path, b"", timeout_s), answer)

    async def state(self) -> str:
        """`ready`, `not ready` or `down`, as its readiness endpoint tells."""
        try:
            answer = await self._caller.call("GET", "/readyz", b"", {}, _READY_TIMEOUT_S, repeatable=True)
        except CallError:
            return "down"
        return "ready" if answer.is_success else "not ready"

    async def aclose(self) -> None:
        """Close the connections."""
        await self._caller.aclose()

    async def _send(
        self, method: str, path: str, body: bytes, timeout_s: float | None, repeatable: bool = False
    ) -> Answer:
        time_s = deadline.at_most(timeout_s or self._timeout_s)
        if time_s <= 0:
            raise StageLate(self.stage, f"{method} {path}: the request's time is spent")
        try:
            with tracing.span(f"call {self.stage}", "client", {"http.request.method": method}) as span:
                answer = await self._caller.call(method, path, body, {**_JSON, **self._headers()}, time_s, repeatable)
                if span is not None:
                    _tell(span, answer)
        except CallLate as error:
            raise StageLate(self.stage, f"{method} {path}: {error}") from error
        except CallError as error:
            raise StageDown(self.stage, f"{method} {path}: {error}") from error
        if answer.is_success:
            return answer
        detail = f"{method} {path} answered {answer.status}: {answer.body[:_SHOWN].decode(errors='replace')}"
        if answer.status == 429:
            raise StageBusy(self.stage, detail, _retry_after_s(answer))
        if 400 <= answer.status < 500:
            raise StageRefused(self.stage, detail, answer.status)
        raise StageDown(self.stage, detail)

    def _read(self, answer: Answer, message: type[Message]) -> Message:
        try:
            return message.model_validate_json(answer.body)
        except ValidationError as error:
            raise StageGarbled(
                self.stage, f"not a {message.__name__}: {error.error_count()} faults, first {error.errors()[0]}"
            ) from error


def _tell(span: tracing.Span, answer: Answer) -> None:
    span.note({"http.response.status_code": answer.status})
    if not answer.is_success:
        span.failed(str(answer.status))


def _retry_after_s(answer: Answer) -> int:
    value = answer.headers.get("retry-after", "")
    return int(value) if value.isdecimal() else 1


class RetrievalClient:
    """The Retriever port over HTTP."""

    def __init__(self, service: ServiceClient) -> None:
        self._service = service

    async def retrieve(self, request: RetrieveRequest) -> RetrieveResponse:
        """See Retriever."""
        return await self._service.read("/v1/retrieve", request, RetrieveResponse)

    async def similar(self, request: SimilarRequest) -> RetrieveResponse:
        """See Retriever."""
        return await self._service.read("/v1/similar", request, RetrieveResponse)


class FilterClient:
    """The SeenFilter port over HTTP. Writes have more time than reads: nothing can stand in for them."""

    def __init__(self, service: ServiceClient, write_timeout_s: float) -> None:
        self._service = service
        self._write_timeout_s = write_timeout_s

    async def unseen(self, request: FilterRequest) -> FilterResponse:
        """See SeenFilter."""
        return await self._service.read("/v1/filter", request, FilterResponse)

    async def seen(self, request: SeenRequest) -> SeenResponse:
        """See SeenFilter. The write gets a name, by which another replica knows what the first one did of it."""
        named = request.model_copy(update={"write_id": uuid4().hex})
        try:
            return await self._service.write("/v1/seen", named, SeenResponse, self._write_timeout_s)
        except StageRefused as error:
            if error.status == FORGOTTEN_STATUS:
                raise ForgottenUser from error
            raise

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
        answer = await self._service.read("/v1/rank", request, RankResponse)
        counts = len(answer.item_ids), len(answer.scores), len(answer.propensities)
        if len(set(counts)) > 1:
            raise StageGarbled(self._service.stage, "{} ids with {} scores and {} propensities".format(*counts))
        return answer


class AttributionClient:
    """The ranker's view of one item over HTTP."""

    def __init__(self, service: ServiceClient) -> None:
        self._service = service

    async def attribution(self, request: AttributionRequest) -> AttributionResponse:
        """What its click probability is made of. Raises StageError."""
        return await self._service.read("/v1/attribution", request, AttributionResponse)
