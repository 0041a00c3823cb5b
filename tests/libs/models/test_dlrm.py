from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from cascade.models import Dlrm, DlrmConfig
from cascade.models.dlrm import Interactions
from cascade.models.errors import ModelConfigError, ModelFileError, ModelInputError


def rows(config: DlrmConfig, draw, count: int = 12):
    return draw(count, config.cardinalities, config.continuous, config.image_dim, config.text_dim)


def test_interactions_are_every_pair_once() -> None:
    vectors = torch.randn(3, 4, 5)
    expected = torch.stack(
        [(vectors[:, i] * vectors[:, j]).sum(1) for i, j in itertools.combinations(range(4), 2)], dim=1
    )
    torch.testing.assert_close(Interactions(4)(vectors), expected)


def test_the_probability_is_the_papers_network_by_hand(dlrm_config, draw) -> None:
    model = Dlrm(dlrm_config).eval()
    categorical, continuous, image, text = inputs = rows(dlrm_config, draw)
    with torch.inference_mode():
        dense = model.bottom(torch.from_numpy(continuous))
        vectors = [dense]
        vectors += [t(torch.from_numpy(categorical[:, n])) for n, t in enumerate(model.embed.tables)]
        vectors += [model.image(torch.from_numpy(image)), model.text(torch.from_numpy(text))]
        pairs = [(a * b).sum(1) for a, b in itertools.combinations(vectors, 2)]
        expected = model.over(torch.cat([dense, torch.stack(pairs, 1)], 1)).sigmoid().squeeze(1)
    probabilities = model.predict(*inputs)
    assert probabilities.shape == (12,)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected.numpy(), atol=1e-6)


def test_a_row_does_not_depend_on_its_batch(dlrm_config, draw) -> None:
    model = Dlrm(dlrm_config)
    inputs = rows(dlrm_config, draw)
    alone = np.concatenate([model.predict(*(a[n : n + 1] for a in inputs)) for n in range(12)])
    np.testing.assert_allclose(model.predict(*inputs), alone, atol=1e-6)


def test_no_rows_give_no_probabilities(dlrm_config, draw) -> None:
    assert Dlrm(dlrm_config).predict(*rows(dlrm_config, draw, 0)).shape == (0,)


def test_saved_and_loaded_rankers_answer_alike(dlrm_config, draw, tmp_path) -> None:
    model = Dlrm(dlrm_config).eval()
    model.text_scale.fit(torch.full((3, 6), 0.5))
    model.save(tmp_path)
    loaded = Dlrm.load(tmp_path)
    inputs = rows(dlrm_config, draw)
    np.testing.assert_array_equal(loaded.predict(*inputs), model.predict(*inputs))
    assert loaded.config == dlrm_config
    assert loaded.fingerprint() == model.fingerprint()


def test_a_row_outside_its_table_is_named(dlrm_config, draw) -> None:
    categorical, *others = rows(dlrm_config, draw)
    categorical[3, 8] = 4
    with pytest.raises(ModelInputError, match="column 8 holds row 4, its table has rows 0 to 3"):
        Dlrm(dlrm_config).predict(categorical, *others)


def test_wrong_shapes_are_named(dlrm_config, draw) -> None:
    categorical, continuous, image, text = rows(dlrm_config, draw)
    with pytest.raises(ModelInputError, match=r"image has shape \(12, 7\)"):
        Dlrm(dlrm_config).predict(categorical, continuous, image[:, :7], text)
    with pytest.raises(ModelInputError, match="number of rows"):
        Dlrm(dlrm_config).predict(categorical, continuous, image, text[:2])


def test_an_altered_file_is_refused(dlrm_config, tmp_path) -> None:
    Dlrm(dlrm_config).save(tmp_path)
    (tmp_path / "config.json").write_text('{"kind": "dlrm", "format": 1, "config": {}}')
    with pytest.raises(ModelFileError, match="names no network"):
        Dlrm.load(tmp_path)


def test_impossible_configurations_are_refused(dlrm_config) -> None:
    values = dlrm_config.to_dict()
    nothing = {"user_continuous": 0, "item_continuous": 0, "context_continuous": 0}
    for wrong in (nothing, {"dim": 0}, {"top": (-2,)}, {"width": 1}):
        with pytest.raises(ModelConfigError):
            DlrmConfig.from_dict({**values, **wrong})
