"""The sync client.

with Client("http://127.0.0.1:8000") as shop:
    answer = shop.recommend(RecommendationRequest(user_id="u-17", k=10))
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Self, TypeVar

import httpx
from tenacity import Retrying

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


class Client:
    """A gateway, asked from any number of threads.

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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._patience = patience or Patience()
        self._requests = Requests(base_url, api_key)
        self._http = httpx.Client(base_url=base_url, headers=headers, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def recommend(self, request: RecommendationRequest, *, tracks: Tracks | None = None) -> RecommendationResponse:
        """A ranked list; `degraded` names stages it was made without.

        tracks: asks for a track of a service, for this request alone (`{"ranker": "canary"}`)
        """
        return self._ask(calls.recommend(request, tracks))

    def explain(self, request: WhyRequest) -> WhyResponse:
        """Why an item is in a visitor's list, or is not. Storefront."""
        return self._ask(calls.explain(request))

    def interact(self, request: InteractionRequest) -> InteractionResponse:
        """Record that a visitor met an item: the next list leaves it out. Never sent twice."""
        return self._ask(calls.interact(request))

    def items(
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
        return self._ask(calls.items(category_l1, category_l2, gender, min_price, max_price, q, offset, limit))

    def item(self, item_id: str) -> Item:
        """The item as the shop shows it."""
        return self._ask(calls.item(item_id))

    def similar(self, item_id: str, *, k: int = 10) -> SimilarResponse:
        """The items nearest to this one in the candidate space."""
        return self._ask(calls.similar(item_id, k))

    def popular(self, *, category: str | None = None, k: int = 10) -> PopularResponse:
        """What visitors met most, of the shop or of one top- or second-level category."""
        return self._ask(calls.popular(category, k))

    def facets(self) -> Facets:
        """What the catalog can be narrowed by."""
        return self._ask(calls.facets())

    def users(self, *, query: str | None = None, limit: int = 12) -> UsersResponse:
        """Some users by chance, or those whose id holds `query`. Storefront."""
        return self._ask(calls.users(query, limit))

    def user(self, user_id: str) -> UserProfile:
        """What the online store holds of a user; of a stranger nothing. Storefront."""
        return self._ask(calls.user(user_id))

    def user_events(self, user_id: str) -> AbstractContextManager[Iterator[Event]]:
        """Changes of a user's features and interactions as they happen, while the block runs. Storefront."""
        return self._listen(calls.user_events(user_id))

    def forget_history(self, user_id: str) -> DeletionResponse:
        """Forget what a user met: every item may be shown again."""
        return self._ask(calls.forget_history(user_id))

    def forget_user(self, user_id: str) -> ForgettingReceipt:
        """Forget a user for good. What is online is gone with the answer, files follow within seconds."""
        return self._ask(calls.forget_user(user_id))

    def forgetting(self, receipt: str) -> ForgettingReceipt:
        """How far a user's forgetting has come, by the receipt that `forget_user` gave."""
        return self._ask(calls.forgetting(receipt))

    def models(self) -> ModelsResponse:
        """Versions of every service, with aliases, metrics and gates. Storefront."""
        return self._ask(calls.models())

    def promote(self, service: str, version: str) -> ReleaseResponse:
        """Make a version serve, or what an alias names. Storefront, with an admin key. Never sent twice."""
        return self._ask(calls.promote(service, version))

    def rollback(self, service: str) -> ReleaseResponse:
        """Make the version before serve again. Storefront, with an admin key. Never sent twice."""
        return self._ask(calls.rollback(service))

    def live(self) -> AbstractContextManager[Iterator[Event]]:
        """What the gateway does now, once a second, while the block runs. Storefront."""
        return self._listen(calls.live())

    def info(self) -> InfoResponse:
        """How this gateway is run: its profile, and whether it asks for keys."""
        return self._ask(calls.info())

    def health(self) -> Health:
        """The process answers."""
        return self._ask(calls.health())

    def ready(self) -> Readiness:
        """Readiness, the version that serves, and the state of what is behind. Raises Unavailable where not ready."""
        return self._ask(calls.ready())

    def metrics(self) -> str:
        """Prometheus metrics."""
        return self._ask(calls.metrics())

    def _ask(self, call: Call[T]) -> T:
        begun = time.monotonic()
        tries = Retrying(**self._patience.rules(repeatable=call.operation.repeatable))
        answer: T = tries(self._once, call, begun)
        return answer

    def _once(self, call: Call[T], begun: float) -> T:
        try:
            response = self._http.request(**self._requests.arguments(call, self._patience.time_left(begun)))
        except httpx.HTTPError as error:
            raise self._requests.failure(call, error) from error
        return understood(call.operation, response)

    @contextmanager
    def _listen(self, call: Call[Event]) -> Iterator[Iterator[Event]]:
        arguments = self._requests.arguments(call, stream_timeout(self._patience.timeout_s))
        with ExitStack() as stack:
            try:
                response = stack.enter_context(self._http.stream(**arguments))
                if response.is_error:
                    response.read()
            except httpx.HTTPError as error:
                raise self._requests.failure(call, error) from error
            refused(call.operation, response)
            yield self._events(call, response)

    def _events(self, call: Call[Event], response: httpx.Response) -> Iterator[Event]:
        reader = EventReader()
        try:
            for line in response.iter_lines():
                event = reader.feed(line)
                if event is not None:
                    yield event
        except httpx.HTTPError as error:
            raise self._requests.failure(call, error) from error
