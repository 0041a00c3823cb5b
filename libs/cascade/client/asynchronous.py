"""The async client.

async with AsyncClient("http://127.0.0.1:8000") as shop:
    answer = await shop.recommend(RecommendationRequest(user_id="u-17", k=10))
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar

import httpx
from tenacity import AsyncRetrying

from cascade.api.gateway import (
    DeletionResponse,
    ForgettingReceipt,
    InfoResponse,
    InteractionRequest,
    InteractionResponse,
    Item,
    ItemPage,
    PopularResponse,
    RecommendationRequest,
    RecommendationResponse,
    SimilarResponse,
)
from cascade.api.operations import Health, Readiness
from cascade.api.storefront import Facets, UserProfile, UsersResponse
from cascade.api.versions import ModelsResponse, ReleaseResponse
from cascade.api.why import WhyRequest, WhyResponse
from cascade.client import calls
from cascade.client.answers import refused, understood
from cascade.client.calls import Call, Tracks
from cascade.client.events import Event, EventReader
from cascade.client.patience import Patience
from cascade.client.requests import Requests, stream_timeout

T = TypeVar("T")


class AsyncClient:
    """A gateway, asked from any number of tasks of one event loop.

    base_url: of the gateway, `http://127.0.0.1:8000`
    patience: limits of time, and with them whether calls are made again
    api_key: as `cascade keys create` prints it; in the local profile to promote and roll back alone
    headers: sent with every call
    transport: stands in for the network

    Each call raises ApiError where the gateway answers with a problem, NoAnswer where it answers nothing, Garbled where
    something else answers; its subclasses are in `cascade.client.errors`. A call that can be repeated is, within its
    deadline, where it is refused for now or nothing comes. Calls marked "Storefront" are there where the gateway's
    setting of that name is on.
    """

    def __init__(
        self,
        base_url: str,
        *,
        patience: Patience | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._patience = patience or Patience()
        self._requests = Requests(base_url, api_key)
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def recommend(
        self, request: RecommendationRequest, *, tracks: Tracks | None = None
    ) -> RecommendationResponse:
        """A ranked list; `degraded` names stages it was made without.

        tracks: asks for a track of a service, for this request alone (`{"ranker": "canary"}`)
        """
        return await self._ask(calls.recommend(request, tracks))

    async def explain(self, request: WhyRequest) -> WhyResponse:
        """Why an item is in a visitor's list, or is not. Storefront."""
        return await self._ask(calls.explain(request))

    async def interact(self, request: InteractionRequest) -> InteractionResponse:
        """Record that a visitor met an item: the next list leaves it out. Never sent twice."""
        return await self._ask(calls.interact(request))

    async def items(
        self,
        *,
        category_l1: str | None = None,
        category_l2: str | None = None,
        gender: str | None = None,
        min_price: float | None = None,
        max_price: float | None = None,
        q: str | None = None,
        offset: int = 0,
        limit: int = 24,
    ) -> ItemPage:
        """One page of the catalog: the items that match every filter given. q: words that all must occur"""
        return await self._ask(calls.items(category_l1, category_l2, gender, min_price, max_price, q, offset, limit))

    async def item(self, item_id: str) -> Item:
        """The item as the shop shows it."""
        return await self._ask(calls.item(item_id))

    async def similar(self, item_id: str, *, k: int = 10) -> SimilarResponse:
        """The items nearest to this one in the candidate space."""
        return await self._ask(calls.similar(item_id, k))

    async def popular(self, *, category: str | None = None, k: int = 10) -> PopularResponse:
        """What visitors met most, of the shop or of one top- or second-level category."""
        return await self._ask(calls.popular(category, k))

    async def facets(self) -> Facets:
        """What the catalog can be narrowed by."""
        return await self._ask(calls.facets())

    async def users(self, *, query: str | None = None, limit: int = 12) -> UsersResponse:
        """Some users by chance, or those whose id holds `query`. Storefront."""
        return await self._ask(calls.users(query, limit))

    async def user(self, user_id: str) -> UserProfile:
        """What the online store holds of a user; of a stranger nothing. Storefront."""
        return await self._ask(calls.user(user_id))

    def user_events(self, user_id: str) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Changes of a user's features and interactions as they happen, while the block runs. Storefront."""
        return self._listen(calls.user_events(user_id))

    async def forget_history(self, user_id: str) -> DeletionResponse:
        """Forget what a user met: every item may be shown again."""
        return await self._ask(calls.forget_history(user_id))

    async def forget_user(self, user_id: str) -> ForgettingReceipt:
        """Forget a user for good. What is online is gone with the answer, files follow within seconds."""
        return await self._ask(calls.forget_user(user_id))

    async def forgetting(self, receipt: str) -> ForgettingReceipt:
        """How far a user's forgetting has come, by the receipt that `forget_user` gave."""
        return await self._ask(calls.forgetting(receipt))

    async def models(self) -> ModelsResponse:
        """Versions of every service, with aliases, metrics and gates. Storefront."""
        return await self._ask(calls.models())

    async def promote(self, service: str, version: str) -> ReleaseResponse:
        """Make a version serve, or what an alias names. Storefront, with an admin key. Never sent twice."""
        return await self._ask(calls.promote(service, version))

    async def rollback(self, service: str) -> ReleaseResponse:
        """Make the version before serve again. Storefront, with an admin key. Never sent twice."""
        return await self._ask(calls.rollback(service))

    def live(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """What the gateway does now, once a second, while the block runs. Storefront."""
        return self._listen(calls.live())

    async def info(self) -> InfoResponse:
        """How this gateway is run: its profile, and whether it asks for keys."""
        return await self._ask(calls.info())

    async def health(self) -> Health:
        """The process answers."""
        return await self._ask(calls.health())

    async def ready(self) -> Readiness:
        """Readiness, the version that serves, and the state of what is behind. Raises Unavailable where not ready."""
        return await self._ask(calls.ready())

    async def metrics(self) -> str:
        """Prometheus metrics."""
        return await self._ask(calls.metrics())

    async def _ask(self, call: Call[T]) -> T:
        begun = time.monotonic()
        tries = AsyncRetrying(**self._patience.rules(repeatable=call.operation.repeatable))
        answer: T = await tries(self._once, call, begun)
        return answer

    async def _once(self, call: Call[T], begun: float) -> T:
        try:
            response = await self._http.request(**self._requests.arguments(call, self._patience.time_left(begun)))
        except httpx.HTTPError as error:
            raise self._requests.failure(call, error) from error
        return understood(call.operation, response)

    @asynccontextmanager
    async def _listen(self, call: Call[Event]) -> AsyncIterator[AsyncIterator[Event]]:
        arguments = self._requests.arguments(call, stream_timeout(self._patience.timeout_s))
        async with AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(self._http.stream(**arguments))
                if response.is_error:
                    await response.aread()
            except httpx.HTTPError as error:
                raise self._requests.failure(call, error) from error
            refused(call.operation, response)
            yield self._events(call, response)

    async def _events(self, call: Call[Event], response: httpx.Response) -> AsyncIterator[Event]:
        reader = EventReader()
        try:
            async for line in response.aiter_lines():
                event = reader.feed(line)
                if event is not None:
                    yield event
        except httpx.HTTPError as error:
            raise self._requests.failure(call, error) from error
