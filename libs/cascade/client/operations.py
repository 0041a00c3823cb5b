"""What the gateway can be asked, each operation once: method, path, what goes in, what comes out.

A test holds this table to the OpenAPI document of a running gateway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel

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
from cascade.api.versions import ModelsResponse, PromoteRequest, ReleaseResponse
from cascade.api.why import WhyRequest, WhyResponse
from cascade.client.events import Event

T = TypeVar("T")


@dataclass(frozen=True)
class Operation(Generic[T]):
    """One operation.

    path: with its parameters in braces, as in the OpenAPI document
    answer: a message, `str` for text, or Event for a stream of events
    body: the message that is sent, if any
    repeatable: whether asking twice has the effect of asking once
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    answer: type[T]
    body: type[BaseModel] | None = None
    status: int = 200
    repeatable: bool = True


# Reads, whatever their method. A list whose answer was lost on the way is logged as shown, and so is the second one.
RECOMMEND = Operation("POST", "/v1/recommendations", RecommendationResponse, body=RecommendationRequest)
EXPLAIN = Operation("POST", "/v1/explanations", WhyResponse, body=WhyRequest)

# Each is an event of its own: sent again, it counts twice.
INTERACT = Operation(
    "POST", "/v1/interactions", InteractionResponse, body=InteractionRequest, status=202, repeatable=False
)

ITEMS = Operation("GET", "/v1/items", ItemPage)
ITEM = Operation("GET", "/v1/items/{item_id}", Item)
SIMILAR = Operation("GET", "/v1/items/{item_id}/similar", SimilarResponse)
POPULAR = Operation("GET", "/v1/popular", PopularResponse)
FACETS = Operation("GET", "/v1/facets", Facets)

USERS = Operation("GET", "/v1/users", UsersResponse)
USER = Operation("GET", "/v1/users/{user_id}", UserProfile)
USER_EVENTS = Operation("GET", "/v1/users/{user_id}/events", Event)
# What is forgotten stays forgotten; `removed` counts what the answering try removed.
FORGET_HISTORY = Operation("DELETE", "/v1/users/{user_id}/history", DeletionResponse)
FORGET_USER = Operation("DELETE", "/v1/users/{user_id}", ForgettingReceipt)
FORGETTING = Operation("GET", "/v1/forgettings/{receipt}", ForgettingReceipt)

MODELS = Operation("GET", "/v1/models", ModelsResponse)
# What serves is changed once, by someone who looks at the answer; a roll-back made twice would be undone.
PROMOTE = Operation("POST", "/v1/models/{service}/promote", ReleaseResponse, body=PromoteRequest, repeatable=False)
ROLLBACK = Operation("POST", "/v1/models/{service}/rollback", ReleaseResponse, repeatable=False)

LIVE = Operation("GET", "/v1/live", Event)
INFO = Operation("GET", "/v1/info", InfoResponse)
HEALTH = Operation("GET", "/healthz", Health)
READY = Operation("GET", "/readyz", Readiness)
METRICS = Operation("GET", "/metrics", str)

OPERATIONS: dict[str, Operation[Any]] = {
    "recommend": RECOMMEND,
    "explain": EXPLAIN,
    "interact": INTERACT,
    "items": ITEMS,
    "item": ITEM,
    "similar": SIMILAR,
    "popular": POPULAR,
    "facets": FACETS,
    "users": USERS,
    "user": USER,
    "user_events": USER_EVENTS,
    "forget_history": FORGET_HISTORY,
    "forget_user": FORGET_USER,
    "forgetting": FORGETTING,
    "models": MODELS,
    "promote": PROMOTE,
    "rollback": ROLLBACK,
    "live": LIVE,
    "info": INFO,
    "health": HEALTH,
    "ready": READY,
    "metrics": METRICS,
}
"""Operation by the name of the clients' method for it."""
