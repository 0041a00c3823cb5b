from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.models import QueryTower, TwoTowerConfig
from cascade.models.errors import ModelInputError
from cascade.models.history import HistoryArrays
from cascade.models.query_encoder import NumpyQueryEncoder, make_encoder

SHAPES = [
    {},
    {"hidden": ()},
    {"hidden": (16, 8)},
    {"normalise": False},
    {"user_continuous": 0},
    {"item_bias": True},
    {"item_bias": True, "normalise": False},
]


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


CONTEXT = {"context_cardinalities": (4,), "context_continuous": 4}
SESSION = {**CONTEXT, "history_length": 9, "history_event_types": 6, "history_dim": 8, "history_heads": 2, "dim": 8}


def histories(rows: int, length: int, dim: int, rng: np.random.Generator) -> HistoryArrays:
    """Histories of any length with holes, some of them empty."""
    there = (np.arange(length) < rng.integers(0, length + 1, (rows, 1))) & (rng.random((rows, length)) < 0.8)
    return HistoryArrays(
        rng.normal(size=(rows, length, dim)).astype(np.float32),
        rng.integers(0, 6, (rows, length)).astype(np.int32),
        rng.integers(1, 10**7, (rows, length)),
        there,
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    rows=st.integers(0, 9),
    length=st.integers(0, 9),
    seed=st.integers(0, 99),
    shape=st.sampled_from(
        [{}, {"history_sum": True}, {"history_sum": True, "item_bias": True, "normalise": False}, {"item_bias": True}]
    ),
)
def test_vectors_of_sessions_are_the_towers(
    two_tower_config, draw, rows: int, length: int, seed: int, shape: dict[str, object]
) -> None:
    torch.manual_seed(seed)
    tower = QueryTower(TwoTowerConfig.from_dict({**two_tower_config.to_dict(), **SESSION, **shape})).eval()
    with torch.no_grad():
        for parameter in tower.parameters():  # those that begin at zero too
            parameter += 0.1 * torch.randn_like(parameter)
    users = draw(rows, tower.config.query_cardinalities, tower.config.query_continuous)
    history = histories(rows, length, tower.config.dim, np.random.default_rng(seed))
    vectors = NumpyQueryEncoder(tower).predict(*users, history)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, tower.predict(*users, history), atol=1e-5)


def test_the_sum_of_a_history_by_hand(two_tower_config, draw) -> None:
    """Two events: their items' vectors by the weights of their types, over the root of two; the bias is no part."""
    shape = {**SESSION, "history_sum": True, "item_bias": True, "normalise": False}
    tower = QueryTower(TwoTowerConfig.from_dict({**two_tower_config.to_dict(), **shape})).eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.zero_()
        tower.sum.map.weight[: tower.config.item_dims] = torch.eye(7)
        tower.sum.by_type.weight[:, 0] = torch.tensor([0.0, 1.0, 2.0, 0.0, 0.0, -1.0])
    users = draw(1, tower.config.query_cardinalities, tower.config.query_continuous)
    vectors = np.arange(16, dtype=np.float32).reshape(1, 2, 8)
    history = HistoryArrays(vectors, np.array([[2, 5]], np.int32), np.array([[5, 9]]), np.ones((1, 2), bool))
    by_hand = (2 * vectors[0, 0, :7] - vectors[0, 1, :7]) / np.sqrt(2)
    for encoder in (tower, NumpyQueryEncoder(tower)):
        found = encoder.predict(*users, history)[0]
        np.testing.assert_allclose(found, [*by_hand, 1.0], atol=1e-5)


def test_padding_and_company_change_nothing(two_tower_config, draw) -> None:
    """A visitor's vector is the same alone and among others, with padding and without."""
    torch.manual_seed(3)
    tower = QueryTower(TwoTowerConfig.from_dict({**two_tower_config.to_dict(), **SESSION})).eval()
    categorical, continuous = draw(5, tower.config.query_cardinalities, tower.config.query_continuous)
    history = histories(5, 9, 8, np.random.default_rng(1))
    history.there[2] = np.arange(9) < 4
    alone = HistoryArrays(
        history.vectors[2:3, :4], history.types[2:3, :4], history.ages[2:3, :4], history.there[2:3, :4]
    )
    for encoder in (tower, NumpyQueryEncoder(tower)):
        together = encoder.predict(categorical, continuous, history)
        np.testing.assert_allclose(encoder.predict(categorical[2:3], continuous[2:3], alone)[0], together[2], atol=1e-6)


def test_a_tower_asks_for_what_it_reads(two_tower_config, draw) -> None:
    tower = QueryTower(TwoTowerConfig.from_dict({**two_tower_config.to_dict(), **SESSION}))
    users = draw(2, tower.config.query_cardinalities, tower.config.query_continuous)
    history = histories(2, 10, 8, np.random.default_rng(0))
    for encoder in (tower, NumpyQueryEncoder(tower)):
        with pytest.raises(ModelInputError, match="mode session was given no history"):
            encoder.predict(*users)
        with pytest.raises(ModelInputError, match="reads the latest 9"):
            encoder.predict(*users, history)
    static = QueryTower(two_tower_config)
    with pytest.raises(ModelInputError, match="mode static was given a history"):
        static.predict(*draw(2, two_tower_config.user_cardinalities, 1), history)


@pytest.mark.parametrize(("more", "mode"), [({}, "static"), (CONTEXT, "context"), (SESSION, "session")])
def test_a_tower_of_each_mode_is_saved_and_loaded(two_tower_config, draw, tmp_path, more, mode: str) -> None:
    tower = QueryTower(TwoTowerConfig.from_dict({**two_tower_config.to_dict(), **more})).eval()
    tower.save(tmp_path)
    again = QueryTower.load(tmp_path)
    assert again.config.mode == tower.config.mode == mode
    users = draw(3, tower.config.query_cardinalities, tower.config.query_continuous)
    history = histories(3, 9, 8, np.random.default_rng(2)) if mode == "session" else None
    np.testing.assert_array_equal(again.predict(*users, history), tower.predict(*users, history))
