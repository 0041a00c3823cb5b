from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cascade.embeddings.errors import PcaMisfit, PcaUnreadable
from cascade.embeddings.map import embedding_map
from cascade.embeddings.pca import Floats, Pca


@pytest.fixture
def vectors() -> Floats:
    """200 vectors of 20 numbers that live on five directions of falling strength, and a little noise."""
    rng = np.random.default_rng(3)
    strengths = np.array([8.0, 4.0, 2.0, 1.0, 0.5])
    x = (rng.normal(size=(200, 5)) * strengths) @ rng.normal(size=(5, 20)) + 3.0
    return (x + 0.01 * rng.normal(size=x.shape)).astype(np.float32)


def test_it_agrees_with_a_singular_value_decomposition(vectors: Floats) -> None:
    pca = Pca.fit(vectors, dim=5)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(pca.explained, (values**2 / (values**2).sum())[:5], rtol=1e-4)
    np.testing.assert_allclose(np.abs(directions[:5] @ pca.components), np.eye(5), atol=1e-4)
    expected = np.abs(centred @ directions[:5].T)
    np.testing.assert_allclose(np.abs(pca.transform(vectors)) / pca.scale, expected, atol=1e-3)


def test_mean_norm_is_one_and_the_strongest_component_comes_first(vectors: Floats) -> None:
    reduced = Pca.fit(vectors, dim=5).transform(vectors)
    assert np.linalg.norm(reduced, axis=1).mean() == pytest.approx(1.0, abs=1e-5)
    assert (np.diff(reduced.std(axis=0)) < 0).all()
    np.testing.assert_allclose(reduced.mean(axis=0), 0.0, atol=1e-5)


def test_signs_are_fixed(vectors: Floats) -> None:
    components = Pca.fit(vectors, dim=5).components
    assert (components[np.abs(components).argmax(axis=0), range(5)] > 0).all()
    np.testing.assert_allclose(Pca.fit(vectors[::-1], dim=5).components, components, atol=1e-5)


def test_equal_input_gives_equal_bits(vectors: Floats) -> None:
    one, other = Pca.fit(vectors), Pca.fit(vectors.copy())
    assert one.version == other.version
    np.testing.assert_array_equal(one.transform(vectors), other.transform(vectors))


@pytest.mark.parametrize(("rows", "width"), [(200, 20), (3, 100), (1, 100), (2, 1)])
def test_fewer_rows_or_dimensions_than_asked_for_give_columns_of_zeros(rows: int, width: int) -> None:
    x = np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32) + 1.0
    reduced = Pca.fit(x).transform(x)
    assert reduced.shape == (rows, 64)
    assert reduced.dtype == np.float32
    directions = min(rows - 1, width)
    assert not reduced[:, directions:].any()
    assert np.isfinite(reduced).all()
    if directions:
        assert reduced[:, :directions].any(axis=0).all()


def test_a_row_of_zeros_is_unknown_and_stays_so(vectors: Floats) -> None:
    with_gaps = vectors.copy()
    with_gaps[::3] = 0.0
    pca = Pca.fit(with_gaps)
    known = np.ones(len(vectors), dtype=bool)
    known[::3] = False
    assert pca.version == Pca.fit(vectors[known]).version
    reduced = pca.transform(with_gaps)
    assert not reduced[~known].any()
    assert reduced[known].any(axis=1).all()
    np.testing.assert_array_equal(reduced, pca.transform(vectors, known=known))


def test_many_rows_are_taken_in_chunks(vectors: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Pca.fit(vectors)
    expected = whole.transform(vectors)
    monkeypatch.setattr("cascade.embeddings.pca._CHUNK", 7)
    parts = Pca.fit(vectors)
    np.testing.assert_allclose(parts.components[:, :5], whole.components[:, :5], atol=1e-5)
    np.testing.assert_allclose(whole.transform(vectors), expected, atol=1e-6)


def test_saved_and_loaded_it_gives_the_same_bits(vectors: Floats, tmp_path: Path) -> None:
    pca = Pca.fit(vectors)
    pca.save(tmp_path / "pca")
    pca.save(tmp_path / "pca")  # replaces
    loaded = Pca.load(tmp_path / "pca")
    assert loaded.version == pca.version
    np.testing.assert_array_equal(loaded.transform(vectors), pca.transform(vectors))


def test_an_altered_or_missing_file_is_refused(vectors: Floats, tmp_path: Path) -> None:
    folder = tmp_path / "pca"
    with pytest.raises(PcaUnreadable, match="FileNotFoundError"):
        Pca.load(folder)
    Pca.fit(vectors).save(folder)
    np.save(folder / "mean.npy", np.zeros(20, dtype=np.float32))
    with pytest.raises(PcaUnreadable, match="sha256"):
        Pca.load(folder)
    description = json.loads((folder / "pca.json").read_text())
    del description["scale"]
    (folder / "pca.json").write_text(json.dumps(description))
    with pytest.raises(PcaUnreadable, match="scale"):
        Pca.load(folder)


def test_misfits_are_named(vectors: Floats) -> None:
    with pytest.raises(PcaMisfit, match=r"shape \(20,\)"):
        Pca.fit(vectors[0])
    with pytest.raises(PcaMisfit, match="none of the 4"):
        Pca.fit(np.zeros((4, 3), dtype=np.float32))
    with pytest.raises(PcaMisfit, match="none of the 0"):
        Pca.fit(np.zeros((0, 3), dtype=np.float32))
    with pytest.raises(PcaMisfit, match="dim is 0"):
        Pca.fit(vectors, dim=0)
    with pytest.raises(PcaMisfit, match="7 numbers and the PCA was fitted on 20"):
        Pca.fit(vectors).transform(vectors[:, :7])
    with pytest.raises(PcaMisfit, match="one flag a vector"):
        Pca.fit(vectors, known=np.ones(3, dtype=bool))
    broken = vectors.copy()
    broken[5, 5] = np.nan
    with pytest.raises(PcaMisfit, match="NaN"):
        Pca.fit(broken)


@settings(deadline=None, max_examples=50)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
        elements=st.floats(-10, 10, width=32),
    ).filter(lambda x: bool(x.any()))
)
def test_any_finite_vectors_reduce_to_finite_ones(x: Floats) -> None:
    reduced = Pca.fit(x).transform(x)
    assert reduced.shape == (len(x), 64)
    assert np.isfinite(reduced).all()
    assert not reduced[~x.any(axis=1)].any()


def test_the_map_spreads_points_in_the_plane(vectors: Floats) -> None:
    with_gap = vectors.copy()
    with_gap[7] = 0.0
    points = embedding_map(with_gap, seed=1)
    assert points.shape == (200, 2)
    assert points.dtype == np.float32
    assert np.abs(points).max() == 1.0
    assert not points[7].any()
    np.testing.assert_array_equal(points, embedding_map(with_gap, seed=1))


def test_the_map_of_many_points_is_fitted_on_a_sample(vectors: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cascade.embeddings.map._SAMPLE", 50)
    points = embedding_map(vectors, seed=1)
    assert points.shape == (200, 2)
    np.testing.assert_array_equal(points, embedding_map(vectors, seed=1))
    assert not np.array_equal(points, embedding_map(vectors, seed=2))


def test_the_map_of_equal_points_is_one_point() -> None:
    assert not embedding_map(np.ones((5, 3), dtype=np.float32), seed=0).any()
