"""Calls as data, and what their answers mean: all of the client that knows no connection.

One function for each operation makes its Call; the clients send it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from cascade.api.common import Track
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
from cascade.api.headers import TRACK_HEADER
from cascade.api.operations import Health, Readiness
from cascade.api.storefront import Facets, UserProfile, UsersResponse
from cascade.api.versions import ModelsResponse, PromoteRequest, ReleaseResponse
from cascade.api.why import WhyRequest, WhyResponse
from cascade.client import operations as of
from cascade.client.errors import InvalidId
from cascade.client.events import Event
from cascade.client.operations import Operation

T = TypeVar("T")

Value = str | int | float
Tracks = Mapping[str, Track]
"""Service (`ranker`, `retrieval`) → the track that is asked for."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call, ready to be sent. path: its parameters filled in; query: what was given alone"""

    operation: Operation[T]
    path: str
    query: Mapping[str, Value] = field(default_factory=dict)
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def recommend(request: RecommendationRequest, tracks: Tracks | None = None) -> Call[RecommendationResponse]:
    """See Client.recommend."""
    named = ", ".join(f"{service}={track}" for service, track in (tracks or {}).items())
    return _call(of.RECOMMEND, body=request, headers={TRACK_HEADER: named} if named else {})


def explain(request: WhyRequest) -> Call[WhyResponse]:
    """See Client.explain."""
    return _call(of.EXPLAIN, body=request)


def interact(request: InteractionRequest) -> Call[InteractionResponse]:
    """See Client.interact."""
    return _call(of.INTERACT, body=request)


def items(
    category_l1: str | None,
    category_l2: str | None,
    gender: str | None,
    min_price: float | None,
    max_price: float | None,
    q: str | None,
    offset: int,
    limit: int,
) -> Call[ItemPage]:
    """See Client.items."""
    return _call(
        of.ITEMS,
        query={
            "category_l1": category_l1,
            "category_l2": category_l2,
            "gender": gender,
            "min_price": min_price,
            "max_price": max_price,
            "q": q,
            "offset": offset,
            "limit": limit,
        },
    )


def item(item_id: str) -> Call[Item]:
    """See Client.item."""
    return _call(of.ITEM, item_id=_alone(item_id, "similar"))


def similar(item_id: str, k: int) -> Call[SimilarResponse]:
    """See Client.similar."""
    return _call(of.SIMILAR, query={"k": k}, item_id=item_id)


def popular(category: str | None, k: int) -> Call[PopularResponse]:
    """See Client.popular."""
    return _call(of.POPULAR, query={"category": category, "k": k})


def facets() -> Call[Facets]:
    """See Client.facets."""
    return _call(of.FACETS)


def users(query: str | None, limit: int) -> Call[UsersResponse]:
    """See Client.users."""
    return _call(of.USERS, query={"query": query, "limit": limit})


def user(user_id: str) -> Call[UserProfile]:
    """See Client.user."""
    return _call(of.USER, user_id=_alone(user_id, "events"))


def user_events(user_id: str) -> Call[Event]:
    """See Client.user_events."""
    return _call(of.USER_EVENTS, user_id=user_id)


def forget_history(user_id: str) -> Call[DeletionResponse]:
    """See Client.forget_history."""
    return _call(of.FORGET_HISTORY, user_id=user_id)


def forget_user(user_id: str) -> Call[ForgettingReceipt]:
    """See Client.forget_user."""
    return _call(of.FORGET_USER, user_id=_alone(user_id, "history"))


def forgetting(receipt: str) -> Call[ForgettingReceipt]:
    """See Client.forgetting."""
    return _call(of.FORGETTING, receipt=receipt)


def models() -> Call[ModelsResponse]:
    """See Client.models."""
    return _call(of.MODELS)


def promote(service: str, version: str) -> Call[ReleaseResponse]:
    """See Client.promote."""
    return _call(of.PROMOTE, body=PromoteRequest(version=version), service=service)


def rollback(service: str) -> Call[ReleaseResponse]:
    """See Client.rollback."""
    return _call(of.ROLLBACK, service=service)


def live() -> Call[Event]:
    """See Client.live."""
    return _call(of.LIVE)


def info() -> Call[InfoResponse]:
    """See Client.info."""
    return _call(of.INFO)


def health() -> Call[Health]:
    """See Client.health."""
    return _call(of.HEALTH)


def ready() -> Call[Readiness]:
    """See Client.ready."""
    return _call(of.READY)


def metrics() -> Call[str]:
    """See Client.metrics."""
    return _call(of.METRICS)


def _call(
    operation: Operation[T],
    *,
    query: Mapping[str, Value | None] | None = None,
    body: BaseModel | None = None,
    headers: Mapping[str, str] | None = None,
    **ids: str,
) -> Call[T]:
    """The call. Fields that were not set stay unsaid: a gateway of another release has its own defaults."""
    return Call(
        operation,
        operation.path.format(**{name: _escaped(name, value) for name, value in ids.items()}),
        {name: value for name, value in (query or {}).items() if value is not None},
        None if body is None else body.model_dump_json(exclude_unset=True).encode(),
        headers or {},
    )


def _escaped(name: str, value: str) -> str:
    """An id as one part of a path: any text; dots too, for `..` is a way up to clients and proxies."""
    if not value:
        raise InvalidId(f"{name} is empty: give an id")
    return quote(value, safe="").replace(".", "%2E")


def _alone(value: str, taken: str) -> str:
    """An id that ends a path. The gateway takes slashes in ids, so one that ends like a longer path is that path."""
    if value.endswith(f"/{taken}"):
        raise InvalidId(f"the id {value!r} ends with /{taken}: the gateway would take it for another call")
    return value
