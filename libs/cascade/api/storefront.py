"""What the gateway's page asks for besides the public API."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cascade.api.common import EventType, Message, Timestamp, UserFeatures


class CategoryCount(Message):
    """A second-level category, an audience, … and how many items it has."""

    name: str
    items: int


class Category(CategoryCount):
    """A top-level category with those below it."""

    children: list[CategoryCount]


class Facets(Message):
    """GET /v1/facets: what the catalog can be narrowed by. Prices are null where no item has one."""

    items: int
    categories: list[Category]
    genders: list[CategoryCount]
    min_price: float | None
    max_price: float | None


class KnownUser(Message):
    """A user that the online store holds features of."""

    user_id: str
    age: float | None
    gender: str | None
    top_category: str | None


class UsersResponse(Message):
    """GET /v1/users. complete: whether every user was looked at, or as many found as were asked for."""

    users: list[KnownUser]
    complete: bool


class RecentInteraction(Message):
    """One of a user's latest interactions. item: its title and category where the catalog holds it."""

    item_id: str
    event_type: EventType
    timestamp: Timestamp
    title: str | None
    category_l1: str | None
    image: str | None


class UserProfile(Message):
    """GET /v1/users/{id}: what the online store holds of a user. known: whether there are features at all."""

    user_id: str
    known: bool
    features: UserFeatures
    recent: Annotated[list[RecentInteraction], Field(description="newest first")]
