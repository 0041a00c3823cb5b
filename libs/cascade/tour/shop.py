"""The running gateway as the tour asks it: the same requests as anybody's."""

from __future__ import annotations

import json
import shlex
from typing import Any
from urllib.parse import quote

import httpx

from cascade.api.gateway import InteractionRequest, ItemPage, RecommendationRequest, RecommendationResponse
from cascade.api.storefront import Facets, UserProfile, UsersResponse
from cascade.tour.errors import GatewaySilent

TIMEOUT_S = 30.0
_JSON = "content-type: application/json"


class Shop:
    """Calls of one gateway. Every method raises GatewaySilent."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        """client: with `url` as its base"""
        self.url, self._client = url, client

    def recommend(self, request: RecommendationRequest, track: str | None = None) -> RecommendationResponse:
        """A list. track: as in `X-Cascade-Track`; None leaves it to the draw."""
        headers = {} if track is None else {"x-cascade-track": track}
        body = request.model_dump(exclude_unset=True)
        return RecommendationResponse.model_validate(self._call("POST", "/v1/recommendations", body, headers))

    def interact(self, event: InteractionRequest) -> None:
        """A visitor met an item; recorded when this returns."""
        self._call("POST", "/v1/interactions", event.model_dump(exclude_unset=True))

    def forget(self, user_id: str) -> None:
        """Remove whatever is kept of a user, and keep the id out from now on."""
        self._call("DELETE", f"/v1/users/{quote(user_id, safe='')}")

    def users(self, count: int) -> UsersResponse:
        """Some users that the online store knows."""
        return UsersResponse.model_validate(self._call("GET", f"/v1/users?limit={count}"))

    def profile(self, user_id: str) -> UserProfile:
        """What is known of a user."""
        return UserProfile.model_validate(self._call("GET", f"/v1/users/{quote(user_id, safe='')}"))

    def facets(self) -> Facets:
        """What the catalog holds."""
        return Facets.model_validate(self._call("GET", "/v1/facets"))

    def items(self, category: str, count: int) -> ItemPage:
        """Items of a category."""
        return ItemPage.model_validate(self._call("GET", f"/v1/items?category_l1={quote(category)}&limit={count}"))

    def curl_list(self, request: RecommendationRequest, track: str | None = None) -> str:
        """`recommend` for a shell."""
        more = "" if track is None else f" -H {shlex.quote(f'x-cascade-track: {track}')}"
        return self._curl("/v1/recommendations", request.model_dump(exclude_unset=True), more)

    def curl_event(self, event: InteractionRequest) -> str:
        """`interact` for a shell."""
        return self._curl("/v1/interactions", event.model_dump(exclude_unset=True))

    def _curl(self, path: str, body: dict[str, Any], more: str = "") -> str:
        return f"curl -s {self.url}{path} -H {shlex.quote(_JSON)}{more} -d {shlex.quote(json.dumps(body))}"

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> Any:
        try:
            answer = self._client.request(method, path, json=body, headers=headers)
        except httpx.TransportError as error:
            raise GatewaySilent(
                f"the gateway at {self.url} does not answer ({error}); `cascade status` shows what runs"
            ) from error
        if answer.status_code == 404 and method == "GET":
            raise GatewaySilent(
                f"the gateway has no {path}: its storefront is off; start it with CASCADE_GATEWAY_STOREFRONT=true"
            )
        if answer.is_error:
            raise GatewaySilent(f"the gateway answered {answer.status_code} to {method} {path}: {answer.text[:300]}")
        return answer.json()
