"""Match features by hand, and what a ranker makes of histories."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from cascade.models import Dlrm, DlrmConfig
from cascade.models.errors import ModelConfigError, ModelInputError
from cascade.models.files import CONFIG_FILE
from cascade.models.history import amounts, amounts_of
from cascade.models.matches import LOG_FLOOR, LOG_SCALE, EventHistories, HistoryMatches

# item_id, category, gender by position; row 0 of a field is out-of-vocabulary
CATALOG = np.array([[1, 1, 1], [2, 1, 2], [3, 2, 1], [4, 1, 1], [0, 2, 0]], np.int32)
CPU = torch.device("cpu")


def sigmoid(value: float) -> float:
    return 1 / (1 + np.exp(-value))


def history(*items: int, ages: list[int] | None = None, types: list[int] | None = None) -> EventHistories:
    count = len(items)
    return EventHistories.gather(
        np.array([items], np.int32),
        np.array([types or [1] * count], np.int32),
        np.array([ages or [60] * count], np.int64),
        CATALOG,
    )


def features(module: HistoryMatches, events: EventHistories, items: list[int]) -> np.ndarray:
    owner = torch.zeros(len(items), dtype=torch.int64)
    with torch.no_grad():
        return module(events.tensors(CPU), owner, torch.from_numpy(CATALOG[items])).numpy()


def test_five_events_of_one_category_by_hand() -> None:
    """One share kernel of slope 1 and one count kernel of slope 0, five events of items 0 and 1 in turn."""
    module = HistoryMatches(3, 10, 3, 1, 1)
    found = features(module, history(0, 1, 0, 1, 0), [3, 2, 0])
    decay = np.exp(-np.arange(5))
    weights = decay / (1 + decay.sum())  # beside them "nothing", of log-odds 0
    each = sigmoid(1.0)

    def columns(*agreeing: list[int]) -> list[float]:
        wanted = []
        for events in agreeing:
            share = weights[events].sum()
            wanted += [share, LOG_SCALE * np.log(share + LOG_FLOOR), np.log1p(each * len(events))]
        return [*wanted, np.log1p(5) / 4, np.log1p(60) / 10]

    every, even, odd = [0, 1, 2, 3, 4], [0, 2, 4], [1, 3]
    np.testing.assert_allclose(found[0], columns([], every, even), rtol=1e-5)  # another item of the category
    np.testing.assert_allclose(found[1], columns([], [], even), rtol=1e-5)  # another category, the same gender
    np.testing.assert_allclose(found[2], columns(even, every, even), rtol=1e-5)
    assert odd  # item 1 is for others


def test_age_and_type_count() -> None:
    module = HistoryMatches(3, 10, 3, 1, 1)
    with torch.no_grad():
        module.by_age[0, 6] = 2.0  # 32 to 63 seconds
        module.by_type[1, 2] = -3.0
    found = features(module, history(0, 1, ages=[40, 64], types=[1, 2]), [3])[0]
    scores = np.exp([2.0, -1.0])
    np.testing.assert_allclose(found[3], scores.sum() / (1 + scores.sum()), rtol=1e-5)
    np.testing.assert_allclose(found[5], np.log1p(sigmoid(1.0) + sigmoid(-2.0)), rtol=1e-5)


def test_what_is_unknown_agrees_with_nothing_and_what_is_gone_keeps_its_place() -> None:
    module = HistoryMatches(3, 10, 3, 1, 1)
    unknown = features(module, history(4), [4])[0]
    assert unknown[0] == unknown[2] == unknown[6] == unknown[8] == 0  # id and gender are out-of-vocabulary in both
    assert unknown[3] == pytest.approx(0.5)
    gone = features(module, history(-1, 0, ages=[1, 60]), [3])[0]
    second = np.exp(-1.0)
    np.testing.assert_allclose(gone[3], second / (1 + second), rtol=1e-5)
    np.testing.assert_allclose(gone[-2:], [np.log1p(1) / 4, np.log1p(60) / 10], rtol=1e-5)


def test_without_events_shares_and_counts_are_zero() -> None:
    module = HistoryMatches(3, 10, 3, 2, 1)
    for events in (EventHistories.empty(1, 3), history(-1, -1)):
        found = features(module, events, [0, 3])
        wanted = [0, 0, LOG_SCALE * np.log(LOG_FLOOR), LOG_SCALE * np.log(LOG_FLOOR), 0]
        np.testing.assert_allclose(found, [[*wanted * 3, 0, 0]] * 2, rtol=1e-6)


def test_how_much_history_there_is_has_one_definition() -> None:
    rng = np.random.default_rng(0)
    there, ages = rng.random((20, 6)) < 0.4, rng.integers(1, 10**7, (20, 6))
    there[3] = False
    said = amounts(torch.from_numpy(there), torch.from_numpy(ages)).numpy()
    np.testing.assert_allclose(amounts_of(there, ages), said, rtol=1e-6)
    assert (said[3] == 0).all()
    assert amounts_of(there[:, :0], ages[:, :0]).tolist() == [[0, 0]] * 20


def reading(config: DlrmConfig, length: int = 6) -> DlrmConfig:
    return replace(config, history_length=length, history_event_types=4)


def test_rows_that_share_a_history_are_scored_as_those_that_have_their_own(dlrm_config, draw) -> None:
    config = reading(dlrm_config)
    torch.manual_seed(0)
    model = Dlrm(config).eval()
    rows = draw(7, config.cardinalities, config.continuous, 8, 6)
    catalog = draw(9, config.item_cardinalities)[0]
    rng = np.random.default_rng(0)
    events = EventHistories.gather(
        rng.integers(-1, 9, (3, 8)).astype(np.int32), rng.integers(0, 4, (3, 8)).astype(np.int32),
        rng.integers(1, 10**6, (3, 8)), catalog,
    )  # fmt: skip
    owner = np.array([0, 0, 2, 1, 2, 2, 0])
    shared = model.predict(*rows, events, owner)
    np.testing.assert_allclose(model.predict(*rows, events.take(owner)), shared, rtol=1e-6)
    newest = EventHistories(events.codes[:, :6], events.types[:, :6], events.ages[:, :6], events.there[:, :6])
    np.testing.assert_array_equal(model.predict(*rows, newest, owner), shared)  # more than it reads is cut
    assert np.abs(model.predict(*rows) - shared).max() > 1e-4
    np.testing.assert_array_equal(model.predict(*rows), model.predict(*rows, EventHistories.empty(7, 4)))
    for wrong in (owner[:3], np.full(7, 3)):
        with pytest.raises(ModelInputError, match="give each row one of them"):
            model.predict(*rows, events, wrong)
    with pytest.raises(ModelInputError, match="3 histories for 7 rows"):
        model.predict(*rows, events)
    with pytest.raises(ModelInputError, match="knows 0 to 3"):
        model.predict(*rows, replace(events, types=events.types + 1), owner)
    with pytest.raises(ModelInputError, match="give \\[rows, events, 4\\]"):
        model.predict(*rows, replace(events, codes=events.codes[:, :, :3]), owner)


def test_a_ranker_without_histories_leaves_them_be(dlrm_config, draw) -> None:
    model = Dlrm(dlrm_config).eval()
    rows = draw(3, dlrm_config.cardinalities, dlrm_config.continuous, 8, 6)
    np.testing.assert_array_equal(
        model.predict(*rows, EventHistories.empty(1, 2), np.zeros(3, int)), model.predict(*rows)
    )


def test_rankers_of_before_there_were_histories_load(dlrm_config, draw, tmp_path) -> None:
    model = Dlrm(dlrm_config).eval()
    model.save(tmp_path)
    content = json.loads((tmp_path / CONFIG_FILE).read_text())
    names = ("history_length", "history_event_types", "share_kernels", "count_kernels")
    for name in (*names, "attention_heads", "attention_dim"):
        del content["config"]["network"][name]
    (tmp_path / CONFIG_FILE).write_text(json.dumps({**content, "format": 2}))
    rows = draw(5, dlrm_config.cardinalities, dlrm_config.continuous, 8, 6)
    np.testing.assert_array_equal(Dlrm.load(tmp_path).predict(*rows), model.predict(*rows))


def test_a_ranker_with_histories_is_kept_whole(dlrm_config, tmp_path) -> None:
    model = Dlrm(reading(dlrm_config))
    torch.nn.init.normal_(model.matches.by_age)
    model.save(tmp_path)
    again = Dlrm.load(tmp_path)
    assert again.fingerprint() == model.fingerprint()
    assert again.config == model.config


def test_histories_need_types_kernels_and_fields(dlrm_config) -> None:
    for change in ({"history_event_types": 0}, {"share_kernels": 0, "count_kernels": 0}, {"item_cardinalities": ()}):
        with pytest.raises(ModelConfigError, match="a network that reads them needs 1 of each"):
            replace(reading(dlrm_config), **change)
