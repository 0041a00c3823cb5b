from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from cascade.models import CandidateTower, QueryTower, TwoTower, TwoTowerConfig
from cascade.models.errors import ModelConfigError, ModelFileError, ModelFormatError, ModelInputError


def users(config: TwoTowerConfig, draw, rows: int = 7):
    return draw(rows, config.user_cardinalities, config.user_continuous)


def items(config: TwoTowerConfig, draw, rows: int = 9):
    widths = (config.item_continuous, config.image_dim, config.text_dim)
    return draw(rows, config.item_cardinalities, *widths)


def test_both_towers_answer_with_unit_vectors_of_one_space(two_tower_config, draw) -> None:
    model = TwoTower(two_tower_config).eval()
    queries = model.query.predict(*users(two_tower_config, draw))
    candidates = model.candidate.predict(*items(two_tower_config, draw))
    assert queries.shape == (7, 64)
    assert candidates.shape == (9, 64)
    assert queries.dtype == candidates.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(candidates, axis=1), 1, rtol=1e-5)


def test_forward_is_the_dot_product_of_the_towers(two_tower_config, draw) -> None:
    model = TwoTower(two_tower_config).eval()
    user, item = users(two_tower_config, draw), items(two_tower_config, draw)
    with torch.inference_mode():
        scores = model(tuple(map(torch.from_numpy, user)), tuple(map(torch.from_numpy, item))).numpy()
    expected = model.query.predict(*user) @ model.candidate.predict(*item).T
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_without_normalisation_lengths_are_free(two_tower_config, draw) -> None:
    config = TwoTowerConfig.from_dict({**two_tower_config.to_dict(), "normalise": False})
    vectors = QueryTower(config).predict(*users(config, draw))
    assert not np.allclose(np.linalg.norm(vectors, axis=1), 1)


def test_rows_do_not_depend_on_their_batch(two_tower_config, draw) -> None:
    tower = CandidateTower(two_tower_config)
    item = items(two_tower_config, draw, 20)
    np.testing.assert_allclose(tower.predict(*item, batch=3), tower.predict(*item), atol=1e-6)


def test_no_rows_give_no_vectors(two_tower_config, draw) -> None:
    assert QueryTower(two_tower_config).predict(*users(two_tower_config, draw, 0)).shape == (0, 64)
    assert CandidateTower(two_tower_config).predict(*items(two_tower_config, draw, 0)).shape == (0, 64)


def test_read_only_arrays_are_taken(two_tower_config, draw) -> None:
    tower = QueryTower(two_tower_config)
    user = users(two_tower_config, draw)
    expected = tower.predict(*user)
    for array in user:
        array.setflags(write=False)
    np.testing.assert_array_equal(tower.predict(*user), expected)


def test_saved_and_loaded_towers_answer_alike(two_tower_config, draw, tmp_path) -> None:
    model = TwoTower(two_tower_config).eval()
    model.candidate.image_scale.fit(torch.full((3, 8), 0.1))
    model.save(tmp_path)
    query, candidate = QueryTower.load(tmp_path / "query"), CandidateTower.load(tmp_path / "candidate")
    user, item = users(two_tower_config, draw), items(two_tower_config, draw)
    np.testing.assert_array_equal(query.predict(*user), model.query.predict(*user))
    np.testing.assert_array_equal(candidate.predict(*item), model.candidate.predict(*item))
    assert query.config == two_tower_config
    assert query.candidate_fingerprint == candidate.fingerprint() == model.candidate.fingerprint()
    assert sorted(p.name for p in (tmp_path / "query").iterdir()) == ["config.json", "weights.safetensors"]
    TwoTower.load(tmp_path)


def test_towers_of_two_trainings_are_refused(two_tower_config, tmp_path) -> None:
    TwoTower(two_tower_config).save(tmp_path)
    CandidateTower(two_tower_config).save(tmp_path / "candidate")
    with pytest.raises(ModelFileError, match="not trained together"):
        TwoTower.load(tmp_path)


def test_the_fingerprint_follows_every_weight(two_tower_config) -> None:
    tower = CandidateTower(two_tower_config)
    before = tower.fingerprint()
    assert tower.fingerprint() == before
    with torch.no_grad():
        tower.embed.tables[0].weight[3, 2] += 1e-3
    assert tower.fingerprint() != before


@pytest.mark.parametrize(("column", "row"), [(0, 11), (2, -1)])
def test_a_row_outside_its_table_is_named(two_tower_config, draw, column: int, row: int) -> None:
    categorical, continuous = users(two_tower_config, draw)
    categorical[4, column] = row
    with pytest.raises(ModelInputError, match=f"column {column} holds row {row}"):
        QueryTower(two_tower_config).predict(categorical, continuous)


def test_wrong_shapes_are_named(two_tower_config, draw) -> None:
    categorical, continuous = users(two_tower_config, draw)
    tower = QueryTower(two_tower_config)
    with pytest.raises(ModelInputError, match=r"\(7, 3\) and \(7, 1\)"):
        tower.predict(categorical[:, :3], continuous)
    with pytest.raises(ModelInputError, match="number of rows"):
        tower.predict(categorical, continuous[:3])


def test_missing_pictures_stay_neutral(two_tower_config) -> None:
    tower = CandidateTower(two_tower_config)
    known = torch.full((4, 8), 0.25)
    tower.image_scale.fit(torch.cat([known, torch.zeros(100, 8)]))
    assert float(tower.image_scale.factor) == pytest.approx(4.0)
    assert not tower.image_scale(torch.zeros(1, 8)).any()


def test_a_newer_format_is_refused(two_tower_config, tmp_path) -> None:
    QueryTower(two_tower_config).save(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(ModelFormatError, match="format 99"):
        QueryTower.load(tmp_path)


def test_another_model_is_refused(two_tower_config, tmp_path) -> None:
    CandidateTower(two_tower_config).save(tmp_path)
    with pytest.raises(ModelFileError, match=r"two_tower\.candidate"):
        QueryTower.load(tmp_path)


@pytest.mark.parametrize("damage", ["absent", "no weights", "truncated", "no json", "foreign weights"])
def test_damaged_folders_are_refused(two_tower_config, tmp_path, damage: str) -> None:
    folder = tmp_path / "tower"
    if damage != "absent":
        QueryTower(two_tower_config).save(folder)
    weights = folder / "weights.safetensors"
    if damage == "no weights":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif damage == "no json":
        (folder / "config.json").write_text("{")
    elif damage == "foreign weights":
        other = TwoTowerConfig.from_dict({**two_tower_config.to_dict(), "hidden": [7]})
        QueryTower(other).save(tmp_path / "other")
        weights.write_bytes((tmp_path / "other" / "weights.safetensors").read_bytes())
    with pytest.raises(ModelFileError):
        QueryTower.load(folder)


def test_impossible_configurations_are_refused(two_tower_config) -> None:
    values = two_tower_config.to_dict()
    for wrong in ({"dim": 0}, {"hidden": (-1,)}, {"user_continuous": 1.5}, {"depth": 3}):
        with pytest.raises(ModelConfigError):
            TwoTowerConfig.from_dict({**values, **wrong})
    with pytest.raises(ModelConfigError, match="empty table"):
        QueryTower(TwoTowerConfig.from_dict({**values, "user_cardinalities": (0, 4, 7, 5)}))
