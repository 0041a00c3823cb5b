"""The shop's side of the API: items, similar items, popular items."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from cascade.api.common import MAX_ID_LENGTH, MAX_K, Id
from cascade.api.gateway import (
    Item,
    ItemPage,
    PopularItem,
    PopularResponse,
    SimilarItem,
    SimilarResponse,
)
from cascade.api.retrieval import SimilarRequest
from cascade.api.storefront import Facets
from services.gateway.catalog import ItemQuery
from services.gateway.container import Shop
from services.gateway.interactions import NoSuchItem
from services.gateway.ports import StageRefused
from services.gateway.routes import gateway_of, reply

MAX_PAGE = 100
_NOT_FOUND = 404

ItemId = Annotated[Id, Path()]
Count = Annotated[int, Query(ge=1, le=MAX_K)]
Name = Annotated[str | None, Query(min_length=1, max_length=MAX_ID_LENGTH)]
Price = Annotated[float | None, Query(ge=0, allow_inf_nan=False)]

router = APIRouter(tags=["shop"])


@router.get("/v1/items", summary="Browse and search the catalog", response_model=ItemPage)
async def items(
    request: Request,
    category_l1: Name = None,
    category_l2: Name = None,
    gender: Name = None,
    min_price: Price = None,
    max_price: Price = None,
    q: Annotated[
        str | None, Query(max_length=200, description="every word must occur in title, text or category")
    ] = None,
    offset: Annotated[int, Query(ge=0, le=100_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 24,
) -> Response:
    """One page of the items that match every filter given, in the catalog's order."""
    query = ItemQuery(category_l1, category_l2, gender, min_price, max_price, q)
    found, total = gateway_of(request).shop().catalog.page(query, offset, limit)
    return reply(ItemPage.model_construct(items=found, total=total, offset=offset, limit=limit))


@router.get("/v1/facets", summary="What the catalog can be narrowed by", response_model=Facets)
async def facets(request: Request) -> Response:
    """Categories and audiences with their numbers of items, and the span of prices."""
    return reply(gateway_of(request).shop().catalog.facets)


@router.get("/v1/items/{item_id:path}/similar", summary="Items like an item", response_model=SimilarResponse)
async def similar(item_id: ItemId, request: Request, k: Count = 10) -> Response:
    """The items nearest to this one in the candidate space."""
    gateway = gateway_of(request)
    shop = gateway.shop()
    _require(shop, item_id)
    try:
        found = await gateway.ports.retriever.similar(SimilarRequest(item_id=item_id, k=k))
    except StageRefused as error:
        if error.status != _NOT_FOUND:
            raise
        # The catalog's bundle may be newer than the index.
        raise NoSuchItem("item_id", item_id, "the index does not hold this item yet") from error
    known, unknown = shop.catalog.split(found.item_ids)
    if unknown:
        gateway.telemetry.without_metadata(unknown)
    scores = dict(zip(found.item_ids, found.scores, strict=True))
    shown = [SimilarItem.model_construct(**_require(shop, one).__dict__, similarity=scores[one]) for one in known]
    return reply(SimilarResponse.model_construct(items=shown, version=found.version))


@router.get("/v1/items/{item_id:path}", summary="One item", response_model=Item)
async def item(item_id: ItemId, request: Request) -> Response:
    """The item as the shop shows it."""
    return reply(_require(gateway_of(request).shop(), item_id))


@router.get("/v1/popular", summary="What visitors met most", response_model=PopularResponse)
async def popular(request: Request, category: Name = None, k: Count = 10) -> Response:
    """Popular items of the shop, or of one top- or second-level category."""
    gateway = gateway_of(request)
    shop = gateway.shop()
    ranked = await shop.popular.top(category, k)
    shown = []
    for item_id, count in ranked:
        found = shop.catalog.get(item_id)
        if found is None:
            gateway.telemetry.without_metadata([item_id])
        else:
            shown.append(PopularItem.model_construct(**found.__dict__, interactions=count))
    return reply(PopularResponse.model_construct(items=shown, category=category))


def _require(shop: Shop, item_id: str) -> Item:
    found = shop.catalog.get(item_id)
    if found is None:
        raise NoSuchItem("item_id", item_id, "no item of the catalog has this id")
    return found
