"""A typed client of the gateway's API: Client, and AsyncClient for asyncio.

    from cascade.client import Client, RecommendationRequest

    with Client("http://127.0.0.1:8000") as shop:
        answer = shop.recommend(RecommendationRequest(user_id="u-17", device_type="mobile", k=10))

What goes in and what comes out are the messages of `cascade.api`, the ones that the gateway itself speaks. It needs
httpx, pydantic and tenacity, and nothing else of Cascade: `pip install 'cascade-recommender[client]'`.
"""

from cascade.api.gateway import InteractionRequest, RecommendationRequest, RecommendationResponse
from cascade.api.why import WhyRequest
from cascade.client.asynchronous import AsyncClient
from cascade.client.errors import (
    ApiError,
    ClientError,
    Conflict,
    Garbled,
    GatewayFault,
    InvalidAddress,
    InvalidId,
    InvalidRequest,
    NoAnswer,
    NotAllowed,
    NotFound,
    Overloaded,
    Unavailable,
)
from cascade.client.events import Event
from cascade.client.patience import Patience
from cascade.client.sync import Client

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "ClientError",
    "Conflict",
    "Event",
    "Garbled",
    "GatewayFault",
    "InteractionRequest",
    "InvalidAddress",
    "InvalidId",
    "InvalidRequest",
    "NoAnswer",
    "NotAllowed",
    "NotFound",
    "Overloaded",
    "Patience",
    "RecommendationRequest",
    "RecommendationResponse",
    "Unavailable",
    "WhyRequest",
]
