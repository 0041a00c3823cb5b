"""What one gateway consists of, put together once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr
from redis.asyncio import Redis

from cascade import tracing
from cascade.api.gateway import InfoResponse, Stage
from cascade.api.headers import REQUEST_ID_HEADER
from cascade.errors import CascadeError
from cascade.online.click_through import click_through
from cascade.online.connection import answers, connect
from cascade.online.impressions import ImpressionStream
from cascade.online.interactions import Interactions
from cascade.online.known_users import KnownUsers
from cascade.online.pipelined import PipelinedRedis
from cascade.online.popular import PopularItems as PopularInRedis
from cascade.online.stream_lag import event_lag
from cascade.online.token_bucket import TokenBuckets
from cascade.online.user_features import FeastUserFeatures
from cascade.serving.balance import Ejection
from cascade.serving.balanced_calls import BalancedCaller, over_tcp
from cascade.serving.breaker import Breaking
from cascade.serving.calls import Caller
from cascade.serving.context import current_request_id
from cascade.serving.limit import ConcurrencyLimit
from cascade.serving.logging import get_logger
from cascade.serving.metrics import ServiceMetrics
from cascade.serving.reload import BundleHolder
from cascade.serving.resolving import Resolver
from cascade.serving.server_events import EventStreams
from cascade.store import ModelStore, canary
from cascade.store.artifacts import GatewayArtifacts
from services.gateway.access import ApiGuard, unfollow
from services.gateway.access_metrics import AccessMetrics
from services.gateway.canaries import CanaryWatch
from services.gateway.catalog import Catalog
from services.gateway.clients import AttributionClient, FilterClient, RankerClient, RetrievalClient, ServiceClient
from services.gateway.context import Clock, system_clock
from services.gateway.engine import Budget, Ports, Recommender
from services.gateway.explain import Explainer
from services.gateway.fallbacks import BundledPopularity, FirstThatAnswers, RedisPopularity
from services.gateway.guard import Guard
from services.gateway.impressions import ImpressionLog
from services.gateway.interactions import Visitors
from services.gateway.ports import FeatureSource, PopularItems
from services.gateway.rate_limit import RateLimit
from services.gateway.settings import GatewaySettings
from services.gateway.storefront.live import Live, Outside
from services.gateway.storefront.models import Models
from services.gateway.storefront.users import Users
from services.gateway.storefront.why import Why
from services.gateway.telemetry import Telemetry
from services.gateway.track_calls import TrackedCalls, TrackedRanker, TrackedRetriever
from services.gateway.tracks import Tracks

BUNDLE = "gateway"
_STATE_TIMEOUT_S = 0.5
_IMPRESSIONS_LINGER_S = 0.02
"""Lists shown within this time are written together, at a tenth of what each by itself would take."""
_WARM_UP_USER = "cascade-warm-up"

StateProbe = Callable[[], Awaitable[str]]
Callers = Mapping[str, Caller]
"""Service name (`retrieval`, `filter`, `ranker`) → how calls to it travel."""

log = get_logger(__name__)


@dataclass(frozen=True)
class Shop:
    """All that depends on the bundle; replaced whole when a new one loads."""

    catalog: Catalog
    popular: PopularItems
    recommender: Recommender
    explainer: Explainer


@dataclass(frozen=True)
class Gateway:
    """What the routes call.

    guard, info: who may ask what, and what is told of it
    dependencies: by name, tells `ready`, `not ready` or `down`
    lists, clicks: bounds on recommendations and interactions in hand
    track_header: whether a request may name its tracks itself
    users, why, models, live, streams: what the storefront looks at, and the streams that tell it of changes
    """

    holder: BundleHolder[Shop]
    guard: ApiGuard
    info: InfoResponse
    canaries: CanaryWatch
    ports: Ports
    visitors: Visitors
    telemetry: Telemetry
    dependencies: Mapping[str, StateProbe]
    lists: ConcurrencyLimit
    clicks: ConcurrencyLimit
    track_header: bool
    users: Users
    why: Why
    models: Models
    live: Callable[[], Live]
    streams: EventStreams

    def shop(self) -> Shop:
        """The shop in use. Raises NotReady while no bundle is loaded."""
        return self.holder.current.value

    def loaded_shop(self) -> Shop | None:
        """The shop in use, or None while no bundle is loaded."""
        return None if self.holder.version is None else self.shop()

    async def dependency_states(self) -> dict[str, str]:
        """`ready`, `not ready` or `down`, by name of what stands behind the gateway."""
        states = await asyncio.gather(*(probe() for probe in self.dependencies.values()))
        return dict(zip(self.dependencies, states, strict=True))

    def versions(self) -> dict[str, str]:
        """Track → bundle version."""
        return self.holder.versions()


def request_headers(token: SecretStr | None) -> Callable[[], dict[str, str]]:
    """→ what every hop of the request in hand carries on: its id, its trace, and the token that lets the gateway in."""
    own = {} if token is None else {"authorization": f"Bearer {token.get_secret_value()}"}

    def headers() -> dict[str, str]:
        request_id = current_request_id()
        return own if request_id is None else {REQUEST_ID_HEADER: request_id, **tracing.headers(), **own}

    return headers


async def open_gateway(
    settings: GatewaySettings,
    metrics: ServiceMetrics,
    guard: ApiGuard,
    stack: AsyncExitStack,
    callers: Callers | None = None,
    clock: Clock = system_clock,
) -> Gateway:
    """Connect a gateway to everything; what it opened is closed by `stack`."""
    telemetry = Telemetry(metrics)
    await _follow_keys(settings, metrics, guard, stack)
    clients = await _clients(settings, callers or {}, telemetry, stack)
    redis = _redis(settings, stack, settings.redis_connections)
    features = FeastUserFeatures(
        settings.feast_registry, settings.redis_url.get_secret_value(), settings.features_timeout_ms / 1000
    )
    stack.push_async_callback(features.close)
    tracks = Tracks(telemetry.tracks)

    def by_track(service: Stage, timeout_ms: int) -> TrackedCalls:
        return TrackedCalls(service, tracks, telemetry.tracks, timeout_ms / 1000, settings.canary_time_share)

    ports = Ports(
        features=features,
        retriever=TrackedRetriever(
            RetrievalClient(clients["retrieval"]), by_track("retrieval", settings.retrieval_timeout_ms)
        ),
        seen_filter=FilterClient(clients["filter"], settings.write_timeout_ms / 1000),
        ranker=TrackedRanker(RankerClient(clients["ranker"]), by_track("ranker", settings.ranker_timeout_ms)),
        fresh_popular=RedisPopularity(PopularInRedis(redis)),
        impressions=_impressions(settings, telemetry, stack),
    )
    interactions = Interactions(redis)
    store = ModelStore(settings.model_store)
    canaries = CanaryWatch(
        lambda service: canary.read(store, service),
        tracks,
        telemetry,
        poll_s=settings.canary_poll_s,
        keep_s=settings.canary_keep_s,
    )
    stage_guard = Guard(telemetry, Breaking(settings.breaker_after, settings.breaker_s))
    holder: BundleHolder[Shop] = BundleHolder(
        store,
        BUNDLE,
        settings.alias,
        lambda folder: open_shop(folder, settings, ports, telemetry, clock, tracks, stage_guard),
        poll_s=settings.alias_poll_s,
        metrics=metrics,
    )
    streams = EventStreams(settings.max_event_streams)
    stack.enter_context(streams.ended_by_signals())
    stack.callback(streams.close)
    await asyncio.gather(holder.start(), canaries.start(), _warm_up(features))
    stack.push_async_callback(holder.aclose)
    stack.push_async_callback(canaries.aclose)
    return Gateway(
        holder=holder,
        guard=guard,
        info=InfoResponse(profile=settings.profile, api_keys="required" if guard.required else "off"),
        canaries=canaries,
        ports=ports,
        visitors=Visitors(
            ports.seen_filter,
            redis,
            lambda: holder.current.value.catalog if holder.version else None,
            settings.clock_skew_s,
            settings.oldest_s,
            clock,
        ),
        telemetry=telemetry,
        dependencies={
            **{name: client.state for name, client in clients.items()},
            "redis": lambda: _redis_state(redis),
        },
        # Nobody queues here: what waits behind the bound would be answered too late to be shown.
        lists=ConcurrencyLimit(settings.max_in_flight, 0, metrics),
        clicks=ConcurrencyLimit(settings.max_in_flight, 0),
        track_header=settings.track_header,
        users=Users(KnownUsers(redis), features, interactions),
        why=Why(ports.retriever, AttributionClient(clients["ranker"]), interactions),
        models=Models(store, {BUNDLE: holder.refresh}),
        live=lambda: Live(metrics.registry, Outside(lambda: event_lag(redis), lambda: click_through(redis))),
        streams=streams,
    )


def open_shop(
    folder: Path,
    settings: GatewaySettings,
    ports: Ports,
    telemetry: Telemetry,
    clock: Clock,
    tracks: Tracks,
    guard: Guard,
) -> Shop:
    """Read the gateway's bundle and stand the recommender on it."""
    artifacts = GatewayArtifacts.load(folder)
    catalog = Catalog(artifacts.items, with_images=settings.images_dir is not None)
    ranked = artifacts.popularity
    popular = FirstThatAnswers(
        ports.fresh_popular,
        BundledPopularity(ranked.global_, ranked.by_l1, ranked.by_l2),
        settings.popular_timeout_ms / 1000,
        telemetry.popular_fallback,
    )

    def recommender(over: Ports) -> Recommender:
        budget, share = budget_of(settings), settings.served_share
        return Recommender(over, popular, catalog, telemetry, budget, clock, tracks, guard, share)

    return Shop(catalog, popular, recommender(ports), Explainer(recommender, ports, catalog, clock))


def budget_of(settings: GatewaySettings) -> Budget:
    """The engine's numbers."""
    return Budget(
        candidates=settings.candidates,
        deeper=settings.deeper,
        features_s=settings.features_timeout_ms / 1000,
        retrieval_s=settings.retrieval_timeout_ms / 1000,
        filter_s=settings.filter_timeout_ms / 1000,
        ranker_s=settings.ranker_timeout_ms / 1000,
        total_s=settings.deadline_ms / 1000,
        share=settings.stage_share,
        overlap=settings.overlap,
    )


async def _clients(
    settings: GatewaySettings, callers: Callers, telemetry: Telemetry, stack: AsyncExitStack
) -> dict[str, ServiceClient]:
    stages: tuple[tuple[Stage, str, int], ...] = (
        ("retrieval", settings.retrieval_url, settings.retrieval_timeout_ms),
        ("filter", settings.filter_url, settings.filter_timeout_ms),
        ("ranker", settings.ranker_url, settings.ranker_timeout_ms),
    )
    headers = request_headers(settings.internal_token)
    clients: dict[str, ServiceClient] = {}
    balanced: list[BalancedCaller] = []
    for stage, urls, timeout_ms in stages:
        caller = callers.get(stage)
        if caller is None:
            caller = _balanced(settings, stage, urls, telemetry)
            balanced.append(caller)
        client = ServiceClient(stage, caller, timeout_ms / 1000, headers)
        stack.push_async_callback(client.aclose)
        clients[stage] = client
    await asyncio.gather(*(caller.start() for caller in balanced))
    return clients


async def _follow_keys(
    settings: GatewaySettings, metrics: ServiceMetrics, guard: ApiGuard, stack: AsyncExitStack
) -> None:
    # A connection of its own, given up sooner than others: counting must not hold up what is counted.
    redis = PipelinedRedis(settings.redis_url.get_secret_value(), settings.rate_timeout_ms / 1000)
    stack.push_async_callback(redis.aclose)
    counted = AccessMetrics(metrics)
    limit = RateLimit(TokenBuckets(redis).take, counted, settings.rate_limit, settings.rate_burst)
    stack.push_async_callback(unfollow, await guard.follow(limit, counted))


def _balanced(settings: GatewaySettings, stage: Stage, urls: str, telemetry: Telemetry) -> BalancedCaller:
    return BalancedCaller(
        Resolver(urls),
        telemetry.replicas_of(stage),
        resolve_s=settings.resolve_s,
        ejection=Ejection(settings.eject_s, settings.eject_after, settings.eject_share),
        connect=lambda place: over_tcp(place, settings.replica_connections),
    )


def _impressions(settings: GatewaySettings, telemetry: Telemetry, stack: AsyncExitStack) -> ImpressionLog:
    # A connection of its own: a slow write holds up no read.
    redis = PipelinedRedis(settings.redis_url.get_secret_value(), settings.redis_timeout_ms / 1000)
    stack.push_async_callback(redis.aclose)
    impressions = ImpressionLog(
        ImpressionStream(redis, settings.impressions_kept).append,
        telemetry,
        bound=settings.impressions_queue,
        linger_s=_IMPRESSIONS_LINGER_S,
        drain_s=settings.impressions_drain_s,
    )
    stack.push_async_callback(impressions.aclose)
    return impressions


def _redis(settings: GatewaySettings, stack: AsyncExitStack, connections: int) -> Redis:
    redis = connect(
        settings.redis_url.get_secret_value(),
        timeout_s=settings.redis_timeout_ms / 1000,
        max_connections=connections,
    )
    stack.push_async_callback(redis.aclose)
    return redis


async def _redis_state(redis: Redis) -> str:
    try:
        async with asyncio.timeout(_STATE_TIMEOUT_S):
            return "ready" if await answers(redis) is None else "down"
    except TimeoutError:
        return "down"


async def _warm_up(features: FeatureSource) -> None:
    """Import Feast and read its registry before the first visitor waits for it."""
    try:
        await features.get(_WARM_UP_USER)
    except CascadeError as error:
        log.warning("user features are not there yet", error=str(error))
