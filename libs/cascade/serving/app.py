"""The app factory: what makes the services alike.

    app = create_service_app("filter", settings, lifespan, [router], checks={"redis": store_answers})

A service's lifespan makes its clients and engine, keeps them on `app.state`, and closes them; `app.state.metrics` (a
ServiceMetrics) and `app.state.settings` are there before it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from cascade import tracing
from cascade.api.headers import REQUEST_ID_HEADER
from cascade.api.operations import Health, Readiness
from cascade.serving import metrics as metrics_module
from cascade.serving.direct import DirectRoutes
from cascade.serving.guard import Guard, Guarded, TokenGuard
from cascade.serving.hot import Hot, HotRoutes, ServiceApp, hot_routes
from cascade.serving.logging import configure_logging, get_logger
from cascade.serving.metrics import ServiceMetrics
from cascade.serving.middleware import BodyLimit, InternalErrors, RequestContext, Telemetry
from cascade.serving.problems import (
    DEFAULT_PROBLEMS,
    OPENAPI_RESPONSES,
    FieldError,
    Problem,
    ProblemOf,
    problem_response,
    retry_after,
)
from cascade.serving.responses import JsonResponse
from cascade.serving.settings import ServiceSettings
from cascade.serving.traced import Lifespan, Traced, request_spans, sending_last_spans

ReadinessCheck = Callable[[FastAPI], Awaitable[str | None]]
"""None when all is well, else the reason why not."""
Report = Callable[[FastAPI], Awaitable[object]]
"""Something that /readyz tells and that decides nothing; JSON."""
Versions = Callable[[FastAPI], Mapping[str, str]]
"""Versions that serve, by track."""

log = get_logger(__name__)


def create_service_app(
    name: str,
    settings: ServiceSettings,
    lifespan: Lifespan,
    routers: Sequence[APIRouter],
    *,
    checks: Mapping[str, ReadinessCheck] | None = None,
    reports: Mapping[str, Report] | None = None,
    versions: Versions | None = None,
    problems: Mapping[type[Exception], ProblemOf] | None = None,
    hot: Sequence[Hot] = (),
    guard: Guard | None = None,
    cors_origins: Sequence[str] = (),
    trusting: bool = True,
    description: str = "",
) -> FastAPI:
    """A service with its routes, health, readiness, metrics, logs and problem details.

    checks: what must hold for /readyz to answer 200, by name
    reports: what /readyz tells besides, by name, of things that the service can do without
    versions: told by /readyz
    problems: exception class → problem, beside and before the common ones
    hot: endpoints of the routers that skip FastAPI's machinery (see cascade.serving.hot)
    guard: decides who is let in; none: whoever sends the internal token
    cors_origins: other origins whose pages may call; requests that name an origin then go the way of ASGI
    trusting: a caller may name the trace that its request belongs to

    Raises NoTracing where traces are to be sent and what sends them is not installed.
    """
    configure_logging(settings.log_level, settings.log_format, hash_users=settings.log_users == "hashed")
    spans = request_spans(name, settings, trusting=trusting)
    metrics = ServiceMetrics(name)
    table = {**DEFAULT_PROBLEMS, **(problems or {})}
    operations = _operations(checks or {}, reports or {}, versions, settings.ready_timeout_s)
    routes = [route for router in (*routers, operations) for route in router.routes if isinstance(route, APIRoute)]
    answers = {error: _answer_with(problem_of, metrics, routes) for error, problem_of in table.items()}

    def answer_to(request: Request, error: Exception) -> Awaitable[Response] | None:
        nearest = next((one for one in type(error).__mro__ if one in answers), None)
        return None if nearest is None else answers[nearest](request, error)

    # Outermost first. The id and the span exist before anything is logged; telemetry sees the status of every answer,
    # the last resort's included; whoever is not let in is refused before the body is read; the limit stands right
    # before the routes.
    guard = guard or TokenGuard(settings.internal_token, looks=not settings.in_production)
    layers = [
        Middleware(RequestContext, service=name),
        *([Middleware(Traced, spans=spans)] if spans else []),
        Middleware(Telemetry, metrics=metrics, log_all=settings.access_log),
        Middleware(InternalErrors, metrics=metrics),
        *([Middleware(CORSMiddleware, **_cors(cors_origins))] if cors_origins else []),
        Middleware(Guarded, guard=guard, metrics=metrics),
        Middleware(BodyLimit, limit=settings.max_body_bytes, metrics=metrics),
    ]
    hot_ones = HotRoutes(hot_routes(routers, hot), answer_to)
    app = ServiceApp(
        hot_ones,
        layers,
        title=f"Cascade {name}",
        description=description,
        lifespan=lifespan if spans is None else sending_last_spans(lifespan, spans),
        responses=OPENAPI_RESPONSES,
        exception_handlers=answers,
        # Its scripts come from another host: nothing for production.
        **({"docs_url": None, "redoc_url": None} if settings.in_production else {}),
    )
    app.direct = DirectRoutes(
        app,
        hot_ones,
        metrics,
        guard,
        log_all=settings.access_log,
        limit=settings.max_body_bytes,
        with_origin=not cors_origins,
        spans=spans,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    for router in routers:
        app.include_router(router)
    app.include_router(operations)
    return app


def _cors(origins: Sequence[str]) -> dict[str, Any]:
    """No cookies: a key is sent by whoever holds it, never by the browser on its own."""
    return {
        "allow_origins": list(origins),
        "allow_methods": ["GET", "POST", "DELETE"],
        "allow_headers": ["authorization", "content-type", REQUEST_ID_HEADER],
        "expose_headers": [REQUEST_ID_HEADER, "retry-after"],
        "max_age": 600,
    }


def _answer_with(
    problem_of: ProblemOf, metrics: ServiceMetrics, routes: Sequence[APIRoute]
) -> Callable[[Request, Exception], Coroutine[Any, Any, Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        metrics.error(problem.kind)
        tracing.note("cascade.problem", problem.kind)
        if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
            problem = replace(problem, headers={**problem.headers, "Allow": _allowed(routes, request.scope["path"])})
        if problem.status >= 500:
            log.warning("problem", kind=problem.kind, error=f"{type(error).__name__}: {error}")
        return problem_response(problem, request.scope)

    return answer


def _allowed(routes: Sequence[APIRoute], path: str) -> str:
    """Methods of every route with this path: Starlette names those of the first one alone."""
    fitting = (route for route in routes if route.path_regex.match(path))
    return ", ".join(sorted({name for route in fitting for name in route.methods or ()}))


def _operations(
    checks: Mapping[str, ReadinessCheck], reports: Mapping[str, Report], versions: Versions | None, timeout_s: float
) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/healthz", summary="The process answers", response_model=Health)
    async def healthz() -> Response:
        return JsonResponse({"status": "ok"})

    @router.get("/readyz", summary="The service can do its work; 503 says what is missing", response_model=Readiness)
    async def readyz(request: Request) -> Response:
        reasons = await asyncio.gather(*(_run(check, request.app, timeout_s) for check in checks.values()))
        missing = [FieldError(name, why) for name, why in zip(checks, reasons, strict=True) if why is not None]
        if missing:
            problem = Problem("not-ready", 503, "Not ready", "See errors for what is missing.", missing, retry_after(1))
            return problem_response(problem, request.scope)
        body: dict[str, object] = {"status": "ready", "checks": dict.fromkeys(checks, "ok")}
        if versions is not None:
            body["versions"] = dict(versions(request.app))
        told = await asyncio.gather(*(_tell(report, request.app, timeout_s) for report in reports.values()))
        body |= dict(zip(reports, told, strict=True))
        return JsonResponse(body)

    types = (metrics_module.CONTENT_TYPE, metrics_module.OPENMETRICS_TYPE)
    text = {one: {"schema": {"type": "string"}} for one in types}
    exposed: dict[int | str, dict[str, Any]] = {200: {"description": "Text", "content": text}}

    @router.get("/metrics", summary="Prometheus metrics", responses=exposed, response_class=Response)
    async def metrics(request: Request) -> Response:
        page, content_type = request.app.state.metrics.page(request.headers.get("accept", ""))
        return Response(page, headers={"content-type": content_type, "vary": "accept"})

    return router


async def _tell(report: Report, app: FastAPI, timeout_s: float) -> object:
    """The report, or null where it is late or fails: readiness does not hang on it."""
    try:
        async with asyncio.timeout(timeout_s):
            return await report(app)
    except TimeoutError:
        return None
    except Exception:
        log.exception("readiness report failed")
        return None


async def _run(check: ReadinessCheck, app: FastAPI, timeout_s: float) -> str | None:
    try:
        async with asyncio.timeout(timeout_s):
            return await check(app)
    except TimeoutError:
        return f"did not answer within {timeout_s:g} s"
    except Exception:
        log.exception("readiness check failed")
        return "the check itself failed; the log says why"
