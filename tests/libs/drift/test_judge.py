from __future__ import annotations

import numpy as np

from cascade.drift.judge import Observed, judge
from cascade.drift.reference import CategoryBins, FeatureReference, Reference
from cascade.drift.report import Drift, DriftReport

RNG = np.random.default_rng(0)
HOUR = 9


def devices(morning: float, evening: float, rows: int = 1000) -> Reference:
    """Phones are such a share of the rows at 9 and at 21 o'clock; of other hours there are none."""
    hours = np.repeat([9, 21], rows)
    phone = np.concatenate([np.arange(rows) < share * rows for share in (morning, evening)])
    values = np.where(phone, 1, 2)
    return Reference({"device_type": FeatureReference.count(CategoryBins((1, 2), ("phone", "desktop")), values, hours)})


def served(phones: float, count: int, hour: int = HOUR) -> dict[str, Observed]:
    values = np.where(np.arange(count) < phones * count, 1, 2)
    return {"device_type": Observed(values, np.full(count, hour))}


def only(drifts: list[Drift]) -> Drift:
    (one,) = drifts
    return one


def test_an_hour_is_held_against_the_same_hour() -> None:
    reference = devices(morning=0.9, evening=0.2)

    morning = only(judge("ranker", reference, served(0.9, 1000, hour=9), 500))
    evening = only(judge("ranker", reference, served(0.9, 1000, hour=21), 500))

    assert (morning.state, morning.same_hours) == ("stable", True)
    assert morning.psi is not None
    assert morning.psi < 0.001
    assert evening.state == "drifted"


def test_hours_together_are_held_against_their_mixture() -> None:
    reference = devices(morning=0.9, evening=0.2)
    three_to_one = Observed(
        np.concatenate([served(0.9, 900)["device_type"].values, served(0.2, 300)["device_type"].values]),
        np.repeat([9, 21], [900, 300]),
    )

    one = only(judge("ranker", reference, {"device_type": three_to_one}, 500))

    assert one.psi is not None
    assert one.psi < 0.001
    assert one.reference == 1600.0  # 1 / (0.75² / 1000 + 0.25² / 1000)


def test_an_hour_that_training_hardly_saw_is_held_against_the_day() -> None:
    one = only(judge("ranker", devices(0.9, 0.3), served(0.6, 1000, hour=3), 500))

    assert not one.same_hours
    assert one.state == "stable"


def test_the_three_states() -> None:
    reference = devices(0.5, 0.5, rows=100_000)

    states = {share: only(judge("ranker", reference, served(share, 10_000), 500)).state for share in (0.52, 0.68, 0.9)}

    assert states == {0.52: "stable", 0.68: "watch", 0.9: "drifted"}


def test_too_few_are_not_judged_however_far_they_lie() -> None:
    reference = devices(0.9, 0.9)

    few = only(judge("ranker", reference, served(0.0, 499), 500))
    none = only(judge("ranker", reference, {}, 500))

    assert (few.state, few.visitors) == ("too few", 499)
    assert few.psi is not None
    assert few.psi > 1
    assert (none.state, none.psi, none.visitors) == ("too few", None, 0)


def test_a_small_reference_is_too_few_as_well() -> None:
    one = only(judge("ranker", devices(0.9, 0.9, rows=8), served(0.0, 5000), 500))

    assert one.state == "too few"
    assert one.chance is not None
    assert one.chance > 0.25


def test_a_report_says_what_it_could_not_judge() -> None:
    reference = devices(0.9, 0.9)
    few = judge("retrieval", reference, served(0.9, 3), 500)
    drifted = judge("ranker", reference, served(0.1, 1000), 500)
    stable = judge("ranker", reference, served(0.9, 1000), 500)

    assert not DriftReport(0, 3600, 500, tuple(few)).passed
    assert "too few visitors to judge 1 of 1 features (500 needed): retrieval device_type (3)" in (
        DriftReport(0, 3600, 500, tuple(few)).summary
    )
    both = DriftReport(0, 3600, 500, (*few, *drifted), notes=("gateway has no reference",))
    assert not both.passed
    assert both.summary.startswith("drifted (PSI above 0.25): ranker device_type (")
    assert "gateway has no reference" in both.summary
    assert DriftReport(0, 3600, 500, tuple(stable)).passed
    assert DriftReport(0, 3600, 500, tuple(stable)).summary == "all 1 features are stable"
    assert not DriftReport(0, 3600, 500, tuple(stable), notes=("x",)).passed
    assert DriftReport(0, 3600, 500).summary == "nothing was judged"
    assert not DriftReport(0, 3600, 500).passed


def test_a_report_is_read_as_it_was_written() -> None:
    drifts = judge("ranker", devices(0.9, 0.9), served(0.1, 1000), 500) + judge("ranker", devices(0.9, 0.9), {}, 500)
    report = DriftReport(0, 3600, 500, tuple(drifts), {"ranker": "v"}, {"ranker": 1000}, ("note",))

    assert DriftReport.from_json(report.to_json()) == report
