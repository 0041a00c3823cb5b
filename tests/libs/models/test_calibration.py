from __future__ import annotations

import json
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.models import Dlrm, DlrmConfig
from cascade.models.calibration import Calibration
from cascade.models.dlrm_gpu import GpuScorer
from cascade.models.dlrm_scorer import PackedScorer, PlainScorer
from cascade.models.errors import ModelConfigError

ISOTONIC = Calibration("isotonic", (-2.0, 0.0, 1.5), (-3.0, -0.5, 0.25), 1.0, 1.0)
KINDS = [Calibration(), Calibration.temperature(0.7, -0.4), ISOTONIC]

steps = st.lists(st.floats(1e-3, 5), min_size=1, max_size=20)


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    places = np.cumsum(draw(steps)) - 10
    values = np.cumsum(draw(st.lists(st.floats(0, 5), min_size=len(places), max_size=len(places)))) - 10
    slope = st.floats(0.05, 20)
    return Calibration("isotonic", tuple(places.tolist()), tuple(values.tolist()), draw(slope), draw(slope))


@settings(deadline=None)  # torch sets itself up in the first
@given(calibrations(), st.lists(st.floats(-40, 40, width=32), min_size=2, max_size=60))
def test_no_order_is_turned_round_and_torch_says_the_same(calibration: Calibration, logits: list[float]) -> None:
    knots = [np.float32(knot) for knot in calibration.logits]
    nearby = [np.nextafter(knot, np.float32(side * 99)) for knot in knots for side in (-1, 1)]
    rising = np.sort(np.array([*logits, *knots, *nearby], np.float32))
    found = calibration.of(rising)
    assert found.dtype == np.float32
    assert (np.diff(found) >= 0).all()
    torch.testing.assert_close(calibration.of_tensor(torch.from_numpy(rising)).numpy(), found, rtol=1e-5, atol=1e-5)


@given(calibrations())
def test_knots_have_their_values_and_it_survives_json(calibration: Calibration) -> None:
    places = np.array(calibration.logits, np.float32)
    np.testing.assert_allclose(calibration.of(places), calibration.calibrated, rtol=1e-4, atol=1e-3)
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


def test_a_line_is_one_everywhere() -> None:
    line = Calibration.temperature(2.0, 1.0)
    assert line.line == (2.0, 1.0)
    assert line.of(np.array([-3, 0, 4], np.float32)).tolist() == [-5, 1, 9]
    assert ISOTONIC.line is None
    assert np.isnan(ISOTONIC.of(np.array([np.nan], np.float32))).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "magic"}, "magic"),
        ({"logits": (0.0, 0.0, 1.0)}, "order"),
        ({"calibrated": (0.0, -1.0, 1.0)}, "order"),
        ({"before": 0.0}, "order"),
        ({"calibrated": (0.0,)}, "3 places and 1 values"),
        ({"calibrated": (0.0, 1.0, float("nan"))}, "finite"),
        ({"logits": (), "calibrated": ()}, "0 places"),
    ],
)
def test_what_would_not_calibrate_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ModelConfigError, match=said):
        replace(ISOTONIC, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("stored", [[1], {"kind": "none", "knots": 3}])
def test_a_stored_one_that_is_none_is_refused(stored: object) -> None:
    with pytest.raises(ModelConfigError):
        Calibration.from_dict(stored)


CONFIG = DlrmConfig((5, 3), (30, 4), (3,), 1, 1, 4, image_dim=6, text_dim=5, dim=8, bottom=(8,), top=(8, 4))


class Items:
    def __init__(self, count: int = 30) -> None:
        rng = np.random.default_rng(0)
        self.categorical = rng.integers(0, CONFIG.item_cardinalities, (count, 2)).astype(np.int32)
        self.continuous, self.image, self.text = (
            rng.standard_normal((count, n), np.float32) for n in (1, CONFIG.image_dim, CONFIG.text_dim)
        )


def model(calibration: Calibration, top: tuple[int, ...] = CONFIG.top) -> Dlrm:
    torch.manual_seed(1)
    made = Dlrm(replace(CONFIG, top=top)).eval()
    with torch.no_grad():
        for table in made.embed.tables:
            table.weight.normal_()
    made.calibration = calibration
    return made


@pytest.mark.parametrize("top", [(8, 4), ()])
@pytest.mark.parametrize("calibration", KINDS, ids=lambda one: one.kind)
def test_every_scorer_gives_what_the_network_predicts(calibration: Calibration, top: tuple[int, ...]) -> None:
    network, items, rng = model(calibration, top), Items(), np.random.default_rng(2)
    user, context = rng.integers(0, 3, (2, 2)).astype(np.int32), rng.integers(0, 3, (2, 1)).astype(np.int32)
    numbers = [rng.standard_normal((2, n), np.float32) for n in (1, 4)]
    asked = [np.arange(30), np.array([3, 9])]
    request = (user, numbers[0], context, numbers[1], asked)
    plain = PlainScorer(network, items).score(*request)
    raw = PlainScorer(model(Calibration(), top), items).score(*request)
    for scorer in (PackedScorer(network, items), GpuScorer(network, items, torch.device("cpu"))):
        for found, expected in zip(scorer.score(*request), plain, strict=True):
            np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)
    for before, after in zip(raw, plain, strict=True):
        np.testing.assert_allclose(
            after, 1 / (1 + np.exp(-calibration.of(np.log(before / (1 - before))))), rtol=1e-3, atol=1e-5
        )
        assert (np.argsort(-before, kind="stable") == np.argsort(-after, kind="stable")).all()


def test_a_damaged_network_still_shows_without_warnings() -> None:
    network = model(ISOTONIC)
    with torch.no_grad():
        network.over[0].weight.fill_(float("nan"))
    one = np.zeros((1, 2), np.int32), np.zeros((1, 1), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = PackedScorer(network, Items()).score(*one, one[0][:, :1], np.zeros((1, 4), np.float32), [np.arange(3)])
    assert np.isnan(found[0]).all()


@pytest.mark.parametrize("calibration", KINDS, ids=lambda one: one.kind)
def test_it_is_stored_with_the_model(calibration: Calibration, tmp_path: Path) -> None:
    model(calibration).save(tmp_path)
    assert Dlrm.load(tmp_path).calibration == calibration
    assert Dlrm.load(tmp_path).fingerprint() == model(Calibration()).fingerprint()


def test_a_model_saved_before_there_were_any_loads_without_one(tmp_path: Path) -> None:
    model(ISOTONIC).save(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["config"]["calibration"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert Dlrm.load(tmp_path).calibration == Calibration()


def test_isotonic_values_stay_apart_between_knots() -> None:
    logits = np.linspace(-8, 8, 200).astype(np.float32)
    assert (np.diff(ISOTONIC.of(logits)) > 0).all()
    assert all(a < b for a, b in pairwise(ISOTONIC.calibrated))
