"""What the engine needs from the outside, and how the outside may fail.

StageError
├── StageLate      no answer within the stage's time
├── StageDown      no connection, or the stage answered with a server error
├── StageOpen      not asked: it failed again and again a moment ago (circuit breaker)
├── StageBusy      the stage refused for load (429)
├── StageRefused   the stage refused our request (another 4xx): a defect of this system, never of the visitor
└── StageGarbled   an answer that is not the message agreed upon: a defect as well
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cascade.api.common import UserFeatures
from cascade.api.filter import FilterRequest, FilterResponse, SeenRequest, SeenResponse
from cascade.api.gateway import Stage
from cascade.api.ranker import RankRequest, RankResponse
from cascade.api.retrieval import RetrieveRequest, RetrieveResponse, SimilarRequest
from cascade.errors import CascadeError


class StageError(CascadeError):
    """A stage gave no usable answer; `reason` is the metric label."""

    reason = "error"
    is_defect = False

    def __init__(self, stage: Stage, detail: str) -> None:
        super().__init__(f"{stage}: {detail}")
        self.stage = stage
        self.detail = detail


class StageLate(StageError):
    """No answer within the stage's time."""

    reason = "late"


class StageDown(StageError):
    """No connection, or a server error."""

    reason = "down"


class StageOpen(StageError):
    """Not asked: the stage failed again and again a moment ago."""

    reason = "open"


class StageBusy(StageError):
    """The stage sheds load."""

    reason = "busy"

    def __init__(self, stage: Stage, detail: str, retry_after_s: int = 1) -> None:
        super().__init__(stage, detail)
        self.retry_after_s = retry_after_s


class StageRefused(StageError):
    """The stage called our request wrong."""

    reason = "refused"
    is_defect = True

    def __init__(self, stage: Stage, detail: str, status: int) -> None:
        super().__init__(stage, detail)
        self.status = status


class StageGarbled(StageError):
    """The stage's answer does not parse as the message agreed upon."""

    reason = "garbled"
    is_defect = True


class FeatureSource(Protocol):
    """The online store of user features."""

    async def get(self, user_id: str) -> UserFeatures | None:
        """Features of a user, or None for one it has never met. Raises CascadeError when it cannot tell."""


class Retriever(Protocol):
    """The candidate stage. Methods raise StageError."""

    async def retrieve(self, request: RetrieveRequest) -> RetrieveResponse:
        """The items nearest to a user."""

    async def similar(self, request: SimilarRequest) -> RetrieveResponse:
        """The items nearest to an item."""


class SeenFilter(Protocol):
    """The memory of what users met. Methods raise StageError."""

    async def unseen(self, request: FilterRequest) -> FilterResponse:
        """The ids the user has not met lately, order kept."""

    async def seen(self, request: SeenRequest) -> SeenResponse:
        """Record one interaction; when it returns, the record is made."""

    async def forget(self, user_id: str) -> int:
        """Remove a user's history; returns the number of keys removed."""


class Ranker(Protocol):
    """The scoring stage. Methods raise StageError."""

    async def rank(self, request: RankRequest) -> RankResponse:
        """The best k candidates with their click probabilities."""


class PopularItems(Protocol):
    """Ranked lists that need no model."""

    async def top(self, category: str | None, k: int) -> list[tuple[str, float]]:
        """The k most popular items of a category (top or second level), or of the whole shop, best first.

        A category nobody met gives an empty list. Never raises: a list in memory stands behind it.
        """


class Impressions(Protocol):
    """Where lists that were shown are logged."""

    def shown(self, make: Callable[[], bytes]) -> None:
        """Take note; returns at once and never raises. The message (JSON of api.impressions.Impression) is made later,
        off the answer's way."""


class Observer(Protocol):
    """Where the engine reports what it did; the metrics and the log sit behind it."""

    def stage(self, stage: str, seconds: float) -> None:
        """A stage took this long, answered or not."""

    def degraded(self, stage: Stage, error: Exception) -> None:
        """A stage gave no usable answer and the request went on without it."""

    def breaker(self, stage: Stage, is_open: bool) -> None:
        """The stage's circuit breaker has opened, or closed again."""

    def without_metadata(self, item_ids: list[str]) -> None:
        """Items a stage named that this gateway's catalog does not hold; they were dropped."""
