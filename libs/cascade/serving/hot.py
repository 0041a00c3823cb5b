"""Hot routes: the few that every recommendation passes skip FastAPI's machinery, and keep its documentation.

FastAPI routes, resolves dependencies, opens exit stacks, parses JSON and validates it in a second step: 200 µs of
processor for a body of 300 ids. Here a dictionary finds the route and pydantic reads the bytes in one pass: 35 µs.
The route is declared with FastAPI as any other, so OpenAPI has it.

Two ways lead here: ASGI (below the app's middlewares), and `cascade.serving.direct`, which spares ASGI as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cascade.serving import strict_json
from cascade.serving.limit import ConcurrencyLimit

if TYPE_CHECKING:
    from cascade.serving.direct import DirectRoutes

Endpoint = Callable[[Any, Request], Awaitable[Response]]
"""async (body: a pydantic model, request: Request) -> Response, and no other parameter."""
Bound = Callable[[FastAPI], ConcurrencyLimit]
"""The bound that a route's requests count against, once the app runs."""
AnswerTo = Callable[[Request, Exception], Awaitable[Response] | None]
"""The response to an exception, or None where nothing is agreed for it."""


@dataclass(frozen=True)
class Hot:
    """An endpoint to be served as a hot route.

    bound: where it takes a slot of a limit without a queue, that limit: what cannot be admitted is refused before its
        body is read
    strict: the body comes from outside: what JSON leaves open is refused (cascade.serving.strict_json)
    """

    endpoint: Endpoint
    bound: Bound | None = None
    strict: bool = False


@dataclass(frozen=True)
class HotRoute:
    """One route. route: FastAPI's own, for its template; model: what the body must be; bound, strict: see Hot."""

    route: APIRoute
    model: type[BaseModel]
    endpoint: Endpoint
    bound: Bound | None = None
    strict: bool = False


def hot_routes(routers: Sequence[APIRouter], hot: Sequence[Hot]) -> dict[str, HotRoute]:
    """Path → route, of endpoints that are POST routes of the routers. Raises ValueError on others."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    found: dict[str, HotRoute] = {}
    for one in hot:
        route = next((r for r in routes if r.endpoint is one.endpoint and r.methods == {"POST"}), None)
        if route is None or "{" in route.path:
            raise ValueError(f"{one.endpoint} is no POST route with a fixed path")
        found[route.path] = HotRoute(route, get_type_hints(one.endpoint)["body"], one.endpoint, one.bound, one.strict)
    return found


class ServiceApp(FastAPI):
    """A FastAPI app whose hot routes stand beside it, below the same middlewares.

    hot: answers the hot routes
    layers: middlewares of both, outermost first
    """

    def __init__(self, hot: HotRoutes, layers: Sequence[Middleware], **options: Any) -> None:
        super().__init__(middleware=list(layers), **options)
        self.direct: DirectRoutes | None = None
        self._hot = hot
        self._way_to_hot: ASGIApp = hot
        for layer in reversed(layers):
            self._way_to_hot = layer.cls(self._way_to_hot, *layer.args, **layer.kwargs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._hot.answers(scope):
            scope["app"] = self
            await self._way_to_hot(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class HotRoutes:
    """ASGI: answers the hot routes, and nothing else."""

    def __init__(self, routes: Mapping[str, HotRoute], answer_to: AnswerTo) -> None:
        self._routes = routes
        self._answer_to = answer_to

    @property
    def routes(self) -> Mapping[str, HotRoute]:
        """Path → route."""
        return self._routes

    def answers(self, scope: Scope) -> bool:
        """Whether it is a request for one of them."""
        return scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self._routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hot = self._routes[scope["path"]]
        scope["route"] = hot.route
        request = Request(scope, receive)
        try:
            response = await self.respond(hot, request, request.body())
        except ClientDisconnect:
            return  # before the body was whole: nobody waits for an answer
        await response(scope, receive, send)

    async def respond(self, hot: HotRoute, request: Request, body: bytes | Awaitable[bytes]) -> Response:
        """The response, problems included. Raises what nothing is agreed for, and ClientDisconnect."""
        try:
            content = body if isinstance(body, bytes) else await body
            try:
                message = hot.model.model_validate_json(content)
            except ValidationError as error:
                raise _as_fastapi(error) from None
            if hot.strict:
                strict_json.check(content)
            return await hot.endpoint(message, request)
        except ClientDisconnect:
            raise
        except Exception as error:
            answer = self._answer_to(request, error)
            if answer is None:
                raise
            return await answer


def _as_fastapi(error: ValidationError) -> RequestValidationError:
    """The error that FastAPI itself would raise, each place below `body`."""
    faults = error.errors(include_url=False)
    return RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in faults])
