"""Stand-ins at the gateway's two borders: ports for the engine, transports for the app."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from cascade.api.common import StageTiming, UserFeatures
from cascade.api.filter import FilterRequest, FilterResponse, SeenRequest, SeenResponse
from cascade.api.impressions import Impression
from cascade.api.ranker import RankRequest, RankResponse
from cascade.api.retrieval import RetrieveRequest, RetrieveResponse, SimilarRequest
from cascade.features.popularity import Popularity
from cascade.serving.calls import Answer, CallFailed, CallLate
from cascade.store import ModelStore
from cascade.store.artifacts import CATALOG_COLUMNS, GatewayArtifacts
from services.gateway.app import create_app
from services.gateway.catalog import Catalog
from services.gateway.engine import Budget, Ports, Recommender
from services.gateway.fallbacks import BundledPopularity
from services.gateway.settings import GatewaySettings

NOW = 1_768_206_600  # 2026-01-12T08:30 UTC
ITEMS = 30
TIMING = StageTiming(queue_ms=0, compute_ms=0)

Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]


def rows(count: int = ITEMS) -> dict[str, dict[str, Any]]:
    """item-00 … : even ones are shoes, odd ones hats; prices rise by one."""
    return {
        (item_id := f"item-{number:02}"): {
            "item_id": item_id,
            "title": f"Crème {'shoe' if number % 2 == 0 else 'hat'} {number}",
            "description": "of linen" if number < 10 else "of wool",
            "category_l1": "shoes" if number % 2 == 0 else "hats",
            "category_l2": f"style-{number % 3}",
            "price": None if number == 5 else float(number),
            "gender": "f" if number < 15 else None,
            "image": f"pictures/{number} a.png" if number != 3 else None,
        }
        for number in range(count)
    }


def popularity() -> Popularity:
    """Hats are what the shop sells; among shoes, the later the better."""
    everything = rows()
    shoes = [one for one in everything if everything[one]["category_l1"] == "shoes"]
    hats = [one for one in everything if everything[one]["category_l1"] == "hats"]
    ranked = lambda ids: tuple((one, float(100 - place)) for place, one in enumerate(ids))  # noqa: E731
    return Popularity(
        ranked([*hats, *shoes]), {"shoes": ranked(shoes[::-1]), "hats": ranked(hats)}, {"style-0": ranked(shoes[:2])}
    )


@dataclass
class FakeStages:
    """All ports in one. Retrieval answers ids in catalog order, the ranker reverses them.

    failing: stage, or stage and track (`ranker canary`) → what its port raises; slow: those that never answer
    """

    catalog_size: int = ITEMS
    features: dict[str, UserFeatures] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)
    failing: dict[str, Exception] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)
    extra_candidates: list[str] = field(default_factory=list)
    retrievals: list[RetrieveRequest] = field(default_factory=list)
    filters: list[FilterRequest] = field(default_factory=list)
    ranks: list[RankRequest] = field(default_factory=list)
    recorded: list[SeenRequest] = field(default_factory=list)
    impressions: list[Impression] = field(default_factory=list)

    async def _behave(self, stage: str, track: str = "stable") -> None:
        for name in (stage, f"{stage} {track}"):
            if name in self.slow:
                await asyncio.sleep(3600)
            if name in self.failing:
                raise self.failing[name]

    async def get(self, user_id: str) -> UserFeatures | None:
        await self._behave("features")
        return self.features.get(user_id)

    async def retrieve(self, request: RetrieveRequest) -> RetrieveResponse:
        self.retrievals.append(request)
        await self._behave("retrieval", request.track)
        ids = [*self.extra_candidates, *(f"item-{number:02}" for number in range(self.catalog_size))][: request.k]
        scores = [1.0 - place / 1000 for place in range(len(ids))]
        version = "r1" if request.track == "stable" else "r2"
        return RetrieveResponse(item_ids=ids, scores=scores, version=version, track=request.track, timing=TIMING)

    async def similar(self, request: SimilarRequest) -> RetrieveResponse:
        return await self.retrieve(RetrieveRequest.model_construct(user=None, context=None, k=request.k))

    async def unseen(self, request: FilterRequest) -> FilterResponse:
        self.filters.append(request)
        await self._behave("filter")
        left = [one for one in request.item_ids if one not in self.met]
        return FilterResponse(item_ids=left, dropped=len(request.item_ids) - len(left), timing=TIMING)

    async def seen(self, request: SeenRequest) -> SeenResponse:
        await self._behave("filter")
        self.recorded.append(request)
        return SeenResponse(event_id=f"{len(self.recorded)}-0")

    async def forget(self, user_id: str) -> int:
        await self._behave("filter")
        return 2

    async def rank(self, request: RankRequest) -> RankResponse:
        self.ranks.append(request)
        await self._behave("ranker", request.track)
        ids = request.item_ids[::-1][: request.k]
        scores = [0.9 - place / 1000 for place in range(len(ids))]
        chances = [1.0 if request.diversity is None else 1 / (2 + place) for place in range(len(ids))]
        version = "d1" if request.track == "stable" else "d2"
        return RankResponse(
            item_ids=ids, scores=scores, propensities=chances, unknown=0, version=version, track=request.track,
            timing=TIMING,
        )  # fmt: skip

    def shown(self, make: Callable[[], bytes]) -> None:
        self.impressions.append(Impression.model_validate_json(make(), strict=True))


@dataclass
class Notes:
    """An Observer that remembers."""

    stages: dict[str, float] = field(default_factory=dict)
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    breakers: list[tuple[str, bool]] = field(default_factory=list)

    def stage(self, stage: str, seconds: float) -> None:
        self.stages[stage] = seconds

    def degraded(self, stage: str, error: Exception) -> None:
        self.failures.append((stage, error))

    def breaker(self, stage: str, is_open: bool) -> None:
        self.breakers.append((stage, is_open))

    def without_metadata(self, item_ids: list[str]) -> None:
        self.dropped += item_ids


@pytest.fixture
def now() -> int:
    return NOW


@pytest.fixture
def stages() -> FakeStages:
    return FakeStages()


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(rows(), with_images=True)


@pytest.fixture
def make_recommender(stages: FakeStages, notes: Notes, catalog: Catalog) -> Callable[..., Recommender]:
    """A recommender over the fakes, with other numbers where given."""

    def make(served_share: float = 0.0, **budget: Any) -> Recommender:
        popular = popularity()
        bundled = BundledPopularity(popular.global_, popular.by_l1, popular.by_l2)
        ports = Ports(
            features=stages,
            retriever=stages,
            seen_filter=stages,
            ranker=stages,
            fresh_popular=bundled,
            impressions=stages,
        )
        return Recommender(
            ports,
            bundled,
            catalog,
            notes,
            Budget(**{"candidates": 20, "deeper": 30, "total_s": 60, **budget}),
            lambda: NOW + 0.5,
            served_share=served_share,
        )

    return make


@pytest.fixture
def model_store(tmp_path: Path) -> ModelStore:
    """A store with the gateway's bundle as stable."""
    store = ModelStore(tmp_path / "models")
    items = {item_id: {name: row[name] for name in CATALOG_COLUMNS} for item_id, row in rows().items()}
    bundle = store.write("gateway", GatewayArtifacts(items, popularity()).save, training_days=[dt.date(2026, 1, 5)])
    store.set_alias("gateway", "stable", bundle.version)
    return store


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    """A gateway whose Redis and Feast are not there."""
    pictures = tmp_path / "images" / "pictures"
    pictures.mkdir(parents=True)
    (pictures / "0 a.png").write_bytes(b"a picture")
    (tmp_path / "secret.txt").write_text("not for visitors")
    return GatewaySettings(
        model_store=str(tmp_path / "models"),
        redis_url="redis://127.0.0.1:1/0",
        feast_registry=tmp_path / "feast" / "registry.db",
        images_dir=tmp_path / "images",
        candidates=20,
        deeper=30,
        deadline_ms=60_000,  # what is tested is what is answered, on machines that other work may keep busy
        log_level="error",
    )


class OverHttpx:
    """A Caller whose service is a function from an httpx request to its response."""

    def __init__(self, handler: Callable[[httpx.Request], Any]) -> None:
        self._client = httpx.AsyncClient(transport=httpx.MockTransport(handler), base_url="http://service")

    async def call(
        self, method: str, path: str, body: bytes, headers: Any, timeout_s: float, repeatable: bool = False
    ) -> Answer:
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._client.request(method, path, content=body, headers=headers)
        except TimeoutError as error:
            raise CallLate("late") from error
        except httpx.HTTPError as error:
            raise CallFailed(str(error)) from error
        return Answer(response.status_code, response.content, dict(response.headers))

    async def aclose(self) -> None:
        await self._client.aclose()


class FakeServices:
    """The three services behind callers: they speak the messages, over the fakes."""

    def __init__(self, stages: FakeStages) -> None:
        self.stages = stages
        self.requests: list[httpx.Request] = []
        self.instead: dict[str, httpx.Response | Exception] = {}

    def callers(self) -> dict[str, OverHttpx]:
        return {name: OverHttpx(self._handler(name)) for name in ("retrieval", "filter", "ranker")}

    def _handler(self, name: str) -> Handler:
        async def handle(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            instead = self.instead.get(name)
            if isinstance(instead, Exception):
                raise instead
            if instead is not None:
                return instead
            return await self._answer(request)

        return handle

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        path, stages = request.url.path, self.stages
        if path == "/readyz":
            return httpx.Response(200, json={})
        if request.method == "DELETE":
            return httpx.Response(200, json={"removed": await stages.forget(path)})
        body = orjson.loads(request.content)
        answer = await {
            "/v1/retrieve": lambda: stages.retrieve(RetrieveRequest.model_validate(body)),
            "/v1/similar": lambda: stages.similar(SimilarRequest.model_validate(body)),
            "/v1/filter": lambda: stages.unseen(FilterRequest.model_validate(body)),
            "/v1/seen": lambda: stages.seen(SeenRequest.model_validate(body)),
            "/v1/rank": lambda: stages.rank(RankRequest.model_validate(body)),
        }[path]()
        return httpx.Response(200, content=answer.model_dump_json())


@pytest.fixture
def services(stages: FakeStages) -> FakeServices:
    return FakeServices(stages)


Opened = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def open_gateway(settings: GatewaySettings, services: FakeServices) -> Opened:
    """A client of a running gateway over the fake services."""

    @asynccontextmanager
    async def opened(**changes: Any) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(settings.model_copy(update=changes), services.callers(), lambda: NOW + 0.5)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                yield client

    return opened


@pytest.fixture
async def client(model_store: ModelStore, open_gateway: Opened) -> AsyncIterator[httpx.AsyncClient]:
    async with open_gateway() as client:
        yield client
