from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.models import QueryTower, TwoTowerConfig
from cascade.models.errors import ModelInputError
from cascade.models.query_encoder import NumpyQueryEncoder, make_encoder

SHAPES = [{}, {"hidden": ()}, {"hidden": (16, 8)}, {"normalise": False}, {"user_continuous": 0}]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(rows=st.integers(0, 9), shape=st.sampled_from(SHAPES), seed=st.integers(0, 99))
def test_vectors_are_the_towers(two_tower_config, draw, rows: int, shape: dict[str, object], seed: int) -> None:
    torch.manual_seed(seed)
    tower = QueryTower(TwoTowerConfig.from_dict({**two_tower_config.to_dict(), **shape})).eval()
    users = draw(rows, tower.config.user_cardinalities, tower.config.user_continuous)
    vectors = NumpyQueryEncoder(tower).predict(*users)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, tower.predict(*users), atol=1e-6)


def test_a_vector_of_nothing_is_no_division_by_zero(two_tower_config, draw) -> None:
    tower = QueryTower(two_tower_config)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.zero_()
    users = draw(3, two_tower_config.user_cardinalities, 1)
    assert not NumpyQueryEncoder(tower).predict(*users).any()


def test_nan_weights_give_nan_for_their_user_alone(two_tower_config, draw) -> None:
    tower = QueryTower(two_tower_config)
    categorical, continuous = draw(3, two_tower_config.user_cardinalities, 1)
    categorical[:, 0] = [1, 2, 3]
    with torch.no_grad():
        tower.embed.tables[0].weight[2] = float("nan")
    vectors = NumpyQueryEncoder(tower).predict(categorical, continuous)
    assert np.isfinite(vectors).all(axis=1).tolist() == [True, False, True]


@pytest.mark.parametrize(("column", "row"), [(0, 11), (2, -1)])
def test_a_row_outside_its_table_is_named(two_tower_config, draw, column: int, row: int) -> None:
    categorical, continuous = draw(7, two_tower_config.user_cardinalities, 1)
    categorical[4, column] = row
    with pytest.raises(ModelInputError, match=f"column {column} holds row {row}"):
        NumpyQueryEncoder(QueryTower(two_tower_config)).predict(categorical, continuous)


def test_wrong_shapes_are_named(two_tower_config, draw) -> None:
    encoder = NumpyQueryEncoder(QueryTower(two_tower_config))
    categorical, continuous = draw(7, two_tower_config.user_cardinalities, 1)
    with pytest.raises(ModelInputError, match=r"\(7, 3\) and \(7, 1\)"):
        encoder.predict(categorical[:, :3], continuous)
    with pytest.raises(ModelInputError, match="number of rows"):
        encoder.predict(categorical, continuous[:3])


def test_the_encoder_follows_the_device(two_tower_config) -> None:
    tower = QueryTower(two_tower_config)
    assert isinstance(make_encoder(tower, torch.device("cpu")), NumpyQueryEncoder)
    assert make_encoder(tower, torch.device("meta")) is tower
