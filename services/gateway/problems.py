"""The gateway's own errors as problem details."""

from __future__ import annotations

from collections.abc import Mapping

from cascade.api.headers import TRACK_HEADER
from cascade.online.errors import FeatureStoreNotReady
from cascade.privacy.receipts import NoSuchReceipt
from cascade.serving.problems import FieldError, Problem, ProblemOf, retry_after
from cascade.store.errors import BundleNotFound, BundleRefused, InvalidName, NothingBefore
from services.gateway.interactions import FromTheFuture, FromThePast, InteractionRefused, NoSuchItem
from services.gateway.ports import StageBusy, StageError
from services.gateway.storefront.models import NoSuchService
from services.gateway.tracks import BadTrackHeader


def no_such_item(error: NoSuchItem) -> Problem:
    """404, with the field."""
    return Problem("unknown-item", 404, "Unknown item", str(error), [_field(error)])


def of_another_time(error: FromTheFuture | FromThePast) -> Problem:
    """422, with the field."""
    return Problem("validation", 422, "Invalid request", str(error), [_field(error)])


def stage_failed(error: StageError) -> Problem:
    """503: nothing can stand in for this stage here. The log tells what happened."""
    wait = error.retry_after_s if isinstance(error, StageBusy) else 1
    return Problem(
        "stage-unavailable", 503, "Not available now", f"The {error.stage} service gave no answer; try again.",
        headers=retry_after(wait),
    )  # fmt: skip


def features_not_ready(_error: FeatureStoreNotReady) -> Problem:
    """503: the features have not been built."""
    return Problem(
        "features-not-ready", 503, "Not available now", "The feature store is not built yet; try again.",
        headers=retry_after(5),
    )  # fmt: skip


def no_such_receipt(error: NoSuchReceipt) -> Problem:
    """404."""
    return Problem("unknown-receipt", 404, "Unknown receipt", str(error))


def no_such_version(error: NoSuchService | BundleNotFound) -> Problem:
    """404: the caller holds the admin key, or looks at names that the page lists."""
    return Problem("unknown-version", 404, "Unknown service or version", str(error))


def not_released(error: BundleRefused | NothingBefore) -> Problem:
    """409: what serves goes on serving."""
    return Problem("not-released", 409, "Not released", str(error))


def invalid_name(error: InvalidName) -> Problem:
    """422."""
    return Problem("validation", 422, "Invalid request", str(error))


def bad_track_header(error: BadTrackHeader) -> Problem:
    """400, with the header."""
    fault = FieldError(TRACK_HEADER, str(error), error.value)
    return Problem("bad-track-header", 400, "Invalid header", "The header names no tracks.", [fault])


def _field(error: InteractionRefused) -> FieldError:
    return FieldError(error.field, error.message, error.value)


PROBLEMS: Mapping[type[Exception], ProblemOf] = {
    NoSuchItem: no_such_item,
    FromTheFuture: of_another_time,
    FromThePast: of_another_time,
    StageError: stage_failed,
    FeatureStoreNotReady: features_not_ready,
    NoSuchReceipt: no_such_receipt,
    NoSuchService: no_such_version,
    BundleNotFound: no_such_version,
    BundleRefused: not_released,
    NothingBefore: not_released,
    InvalidName: invalid_name,
    BadTrackHeader: bad_track_header,
}
"""Exception class → problem, beside the common ones."""
