from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.drift.errors import DriftInputError, ReferenceUnreadable
from cascade.drift.reference import FILE, CategoryBins, FeatureReference, NumberBins, Reference, histogram


def test_a_number_has_bins_of_as_many_rows() -> None:
    values = np.random.default_rng(0).normal(size=10_000)

    counted = histogram(NumberBins.fit(values), values)

    assert counted[:10].tolist() == pytest.approx([1000] * 10, abs=2)


def test_what_lies_above_all_of_training_has_a_bin_of_its_own() -> None:
    bins = NumberBins.fit([5.0] * 100)

    assert histogram(bins, [4.0, 5.0, 5.0, 6.0]).tolist() == [1, 2, 1]
    assert histogram(bins, [np.nan, np.inf]).tolist() == [0, 0, 0]


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=200))
def test_every_number_is_in_one_bin_and_bins_are_in_order(values: list[float]) -> None:
    bins = NumberBins.fit(values)

    assert histogram(bins, values).sum() == len(values)
    assert list(bins.edges) == sorted(set(bins.edges))
    assert len(bins.names) == len(bins.edges) + 1
    ordered = np.sort(values)
    assert (np.diff(bins.bin_of(ordered)) >= 0).all()


def test_no_number_has_no_bins() -> None:
    with pytest.raises(DriftInputError, match="none of 2 values"):
        NumberBins.fit([np.nan, np.inf])


def test_categories_are_the_frequent_ones_the_others_and_the_unknown() -> None:
    rows = np.repeat(np.arange(13), [50, *range(12, 0, -1)])  # row 0 is out-of-vocabulary, row 1 the most frequent

    bins = CategoryBins.fit(rows, [f"c{row}" for row in range(1, 13)])

    assert bins.names == [*(f"c{row}" for row in range(1, 11)), "other", "unknown"]
    assert histogram(bins, [1, 1, 10, 11, 12, 999, 0]).tolist() == [2, *[0] * 8, 1, 3, 1]


def test_of_an_id_it_counts_whether_it_is_known() -> None:
    bins = CategoryBins.fit([1, 2, 3], None)

    assert bins.names == ["known", "unknown"]
    assert histogram(bins, [[7, 0], [3, 3]]).tolist() == [3, 1]


def test_a_reference_is_read_as_it_was_written(tmp_path: Path) -> None:
    hours = np.array([0, 0, 23])
    made = Reference(
        {
            "age": FeatureReference.count(NumberBins.fit([1.5, 2.5, 3.5]), np.array([1.5, 2.5, 3.5]), hours),
            "gender": FeatureReference.count(CategoryBins.fit([1, 2, 2], ["f", "m"]), np.array([1, 2, 2]), hours),
            "price": FeatureReference.count(NumberBins.fit([1.0, 2.0]), np.ones((3, 5)), hours),
        }
    )

    made.save(tmp_path)
    read = Reference.load(tmp_path)

    assert read is not None
    assert list(read.features) == ["age", "gender", "price"]
    for name, feature in made.features.items():
        assert read.features[name].bins == feature.bins
        assert (read.features[name].counts == feature.counts).all()
        assert read.features[name].visitors.tolist() == [2, *[0] * 22, 1]
    assert read.features["gender"].counts[0].tolist() == [1, 1, 0, 0]  # m is the more frequent one
    assert read.features["price"].counts[0].sum() == 10


def test_a_bundle_of_before_has_none(tmp_path: Path) -> None:
    assert Reference.load(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        "[]",
        json.dumps({"kind": "drift-reference", "format": 2, "features": {}}),
        json.dumps({"kind": "other", "format": 1, "features": {}}),
        json.dumps(
            {"kind": "drift-reference", "format": 1, "features": {"a": {"edges": [1], "counts": [], "visitors": []}}}
        ),
    ],
)
def test_what_is_no_reference_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)

    with pytest.raises(ReferenceUnreadable, match=FILE):
        Reference.load(tmp_path)
