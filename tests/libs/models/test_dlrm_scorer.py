from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.models import Dlrm, DlrmConfig, dlrm_scorer
from cascade.models.calibration import Calibration
from cascade.models.dlrm_gpu import GpuScorer
from cascade.models.dlrm_scorer import CHUNK, PackedScorer, PlainScorer, Scorer, make_scorer, packed_bytes
from cascade.models.errors import ModelInputError
from cascade.models.matches import EventHistories

CPU = torch.device("cpu")
ITEMS = 40
SHAPES = [
    {},
    {"bottom": (), "top": ()},
    {"bottom": (16, 8), "top": (8,)},
    {"item_continuous": 0, "dim": 3},
    {"item_continuous": 3, "user_continuous": 0, "context_cardinalities": (), "context_continuous": 0},
    {"user_cardinalities": (), "user_continuous": 0, "item_cardinalities": ()},
]

KNOTS = Calibration("isotonic", (-2.0, 0.0, 1.5), (-3.0, -0.5, 2.0), 1.0, 1.0)

READS = {"history_length": 6, "history_event_types": 4}
READING = [
    {},
    {"share_kernels": 0},
    {"share_kernels": 5, "count_kernels": 0, "dim": 3},
    {"bottom": (), "top": ()},
    {"attention_heads": 2},
    {"attention_heads": 1, "attention_dim": 3, "count_kernels": 0},
]


@dataclass
class Items:
    categorical: np.ndarray
    continuous: np.ndarray
    image: np.ndarray
    text: np.ndarray


def network(config: DlrmConfig, seed: int = 0) -> Dlrm:
    """Weights large enough that scores differ by far more than they are rounded."""
    torch.manual_seed(seed)
    model = Dlrm(config).eval()
    with torch.no_grad():
        for table in model.embed.tables:
            table.weight.normal_(std=1 / config.dim**0.5)
        model.image_scale.factor.fill_(0.7)
        model.text_scale.factor.fill_(1.3)
        if model.matches is not None:
            for kernel in model.matches.parameters():
                kernel.add_(torch.randn_like(kernel))
            model.over[0].weight[:, -config.matches :] *= 10
    return model


def items_of(config: DlrmConfig, count: int = ITEMS, seed: int = 1) -> Items:
    rng = np.random.default_rng(seed)
    return Items(
        rows(rng, count, config.item_cardinalities),
        *(
            rng.standard_normal((count, n), np.float32)
            for n in (config.item_continuous, config.image_dim, config.text_dim)
        ),
    )


def rows(rng: np.random.Generator, count: int, cardinalities: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, np.array(cardinalities or (1,)), (count, len(cardinalities))).astype(np.int32)


def requests_of(config: DlrmConfig, counts: list[int], seed: int = 2, items: int = ITEMS) -> tuple:
    """Users and contexts, out-of-vocabulary rows among them, and positions."""
    rng = np.random.default_rng(seed)
    batch = len(counts)
    user, context = rows(rng, batch, config.user_cardinalities), rows(rng, batch, config.context_cardinalities)
    user[rng.random(user.shape) < 0.3] = 0
    numbers = [rng.standard_normal((batch, n), np.float32) for n in (config.user_continuous, config.context_continuous)]
    positions = [rng.integers(0, items, count).astype(np.int32) for count in counts]
    return user, numbers[0], context, numbers[1], positions


def histories_of(items: Items, batch: int, length: int, seed: int = 3) -> EventHistories:
    """Of up to `length` events: some of items that are gone, some histories empty, some values out-of-vocabulary."""
    rng = np.random.default_rng(seed)
    met = rng.integers(-1, len(items.categorical), (batch, length)).astype(np.int32)
    met[np.arange(length) >= rng.integers(0, length + 1, batch)[:, None]] = -1
    types = rng.integers(0, READS["history_event_types"], met.shape).astype(np.int32)
    ages = np.sort((2 ** rng.uniform(0, 24, met.shape)).astype(np.int64), axis=1)
    return EventHistories.gather(met, types, ages, items.categorical)


def expected(model: Dlrm, items: Items, request: tuple, histories: EventHistories | None = None) -> list[np.ndarray]:
    """`Dlrm.predict` for one request after the other."""
    user, user_numbers, context, context_numbers, positions = request
    answers = []
    for row, chosen in enumerate(positions):
        owner = np.full(len(chosen), row)
        answers.append(
            model.predict(
                np.concatenate([user[owner], items.categorical[chosen], context[owner]], axis=1),
                np.concatenate([user_numbers[owner], items.continuous[chosen], context_numbers[owner]], axis=1),
                items.image[chosen],
                items.text[chosen],
                histories,
                owner,
            )
        )
    return answers


def all_scorers(model: Dlrm, items: Items) -> list[Scorer]:
    return [PlainScorer(model, items), PackedScorer(model, items), GpuScorer(model, items, CPU)]


def same_order(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether `found` orders the candidates as `wanted` does, but for those that rounding alone tells apart."""
    return bool((np.diff(wanted[np.argsort(-found, kind="stable")]) <= 1e-6).all())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    counts=st.lists(st.integers(0, 25), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
)
def test_every_scorer_gives_the_networks_probabilities(
    dlrm_config, shape: dict[str, object], counts: list[int], seed: int
) -> None:
    config = DlrmConfig.from_dict({**dlrm_config.to_dict(), **shape})
    model, items = network(config, seed), items_of(config, seed=seed)
    request = requests_of(config, counts, seed)
    wanted = expected(model, items, request)
    for scorer in all_scorers(model, items):
        found = scorer.score(*request)
        assert [len(scores) for scores in found] == counts
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == np.float32
            np.testing.assert_allclose(one, other, atol=1e-5, rtol=0)
            assert same_order(one, other)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    shape=st.sampled_from(READING),
    counts=st.lists(st.integers(0, 25), min_size=1, max_size=6),
    length=st.integers(0, 9),
    seed=st.integers(0, 1000),
)
def test_every_scorer_reads_histories_as_the_network_does(
    dlrm_config, shape: dict[str, object], counts: list[int], length: int, seed: int
) -> None:
    config = DlrmConfig.from_dict({**dlrm_config.to_dict(), **READS, **shape})
    model, items = network(config, seed), items_of(config, seed=seed)
    request, histories = requests_of(config, counts, seed), histories_of(items, len(counts), length, seed)
    scorers = all_scorers(model, items)
    # A history leaves nothing behind for the next request: neither in the same batch nor in the one after it.
    for read in (histories, None, histories):
        wanted = expected(model, items, request, read)
        for scorer in scorers:
            for one, other in zip(scorer.score(*request, read), wanted, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5, rtol=0)
                assert same_order(one, other)


@pytest.mark.parametrize("calibration", [Calibration(), Calibration.temperature(0.8, -0.3), KNOTS])
def test_every_scorer_adds_an_affinity_before_it_calibrates(dlrm_config, calibration: Calibration) -> None:
    model, counts = network(dlrm_config), [7, CHUNK + 3, 0, 1]
    model.calibration = calibration
    items, request = items_of(dlrm_config), requests_of(dlrm_config, counts)
    rng = np.random.default_rng(4)
    offsets = [rng.standard_normal(count).astype(np.float32) for count in counts]
    plain = expected(model, items, request)
    logits = [np.log(p) - np.log1p(-p) for p in plain]
    for scorer in (PlainScorer(model, items), PackedScorer(model, items), GpuScorer(model, items, CPU)):
        scorer.score(*request, offsets=[one + 1 for one in offsets])  # nothing of it is left behind
        found = scorer.score(*request, offsets=offsets)
        for row, chosen in enumerate(request[-1]):
            owner = np.full(len(chosen), row)
            wanted = model.predict(
                np.concatenate([request[0][owner], items.categorical[chosen], request[2][owner]], axis=1),
                np.concatenate([request[1][owner], items.continuous[chosen], request[3][owner]], axis=1),
                items.image[chosen],
                items.text[chosen],
                offset=offsets[row],
            )
            np.testing.assert_allclose(found[row], wanted, atol=1e-5)
            if calibration.kind == "none" and len(chosen):
                by_hand = 1 / (1 + np.exp(-(logits[row] + offsets[row])))
                np.testing.assert_allclose(found[row], by_hand, atol=1e-4)
        for one, two in zip(scorer.score(*request), plain, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)


def test_a_history_moves_scores_and_one_that_does_not_fit_is_refused(dlrm_config) -> None:
    config = DlrmConfig.from_dict({**dlrm_config.to_dict(), **READS})
    model, items = network(config), items_of(config)
    request, histories = requests_of(config, [CHUNK + 1, 3]), histories_of(items, 2, 6, seed=5)
    assert histories.there.any(axis=1).all()
    wanted = expected(model, items, request, histories)
    for scorer in all_scorers(model, items):
        for one, other, without in zip(scorer.score(*request, histories), wanted, scorer.score(*request), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5, rtol=0)
            assert np.abs(one - without).max() > 1e-3
        with pytest.raises(ModelInputError, match="1 histories for 2 rows"):
            scorer.score(*request, histories.take(slice(0, 1)))
    histories.codes[0, 0, 1] = config.item_cardinalities[1]
    with pytest.raises(ModelInputError, match="take them from this model's items"):
        PackedScorer(model, items).score(*request, histories)


@pytest.mark.parametrize("count", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_chunks_leave_no_seam(dlrm_config, count: int) -> None:
    model, items = network(dlrm_config), items_of(dlrm_config)
    request = requests_of(dlrm_config, [count, 3])
    for found, wanted in zip(PackedScorer(model, items).score(*request), expected(model, items, request), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)


def test_tables_too_large_to_join_give_the_same(dlrm_config, monkeypatch) -> None:
    model, items = network(dlrm_config), items_of(dlrm_config)
    request = requests_of(dlrm_config, [9, 4])
    joined = PackedScorer(model, items)
    monkeypatch.setattr(dlrm_scorer, "JOINED_BYTES", 0)
    apart = PackedScorer(model, items)
    assert apart._joined is None is not joined._joined
    for one, other in zip(joined.score(*request), apart.score(*request), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_scorer_forgets_the_request_before(dlrm_config) -> None:
    model, items = network(dlrm_config), items_of(dlrm_config)
    for scorer in all_scorers(model, items):
        first = requests_of(dlrm_config, [20, 7])
        before = scorer.score(*first)
        scorer.score(*requests_of(dlrm_config, [25, 1, 30], seed=8))
        for one, other in zip(scorer.score(*first), before, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_damaged_weights_are_seen_in_every_score_that_they_touch(dlrm_config, bad: float) -> None:
    model, items = network(dlrm_config), items_of(dlrm_config)
    request = requests_of(dlrm_config, [10, 10])
    request[0][:, 0] = [3, 4]
    with torch.no_grad():
        model.embed.tables[0].weight[3] = bad
    for scorer in [PackedScorer(model, items), GpuScorer(model, items, CPU)]:
        damaged, sound = scorer.score(*request)
        assert np.isnan(damaged).any() if bad is np.nan else not np.isfinite(damaged).all()
        assert np.isfinite(sound).all()
    items.image[request[4][1][0]] = np.nan
    for scorer in [PackedScorer(model, items), GpuScorer(model, items, CPU)]:
        _, touched = scorer.score(*request)
        hit = request[4][1] == request[4][1][0]
        assert np.isnan(touched[hit]).all()
        assert np.isfinite(touched[~hit]).all()


def test_certain_items_give_probabilities_at_the_ends_without_a_warning(dlrm_config) -> None:
    model, items = network(dlrm_config), items_of(dlrm_config)
    request = requests_of(dlrm_config, [5])
    for bias, probability in ((-500.0, 0.0), (500.0, 1.0)):
        with torch.no_grad():
            model.over[-1].bias.fill_(bias)
        [scores] = PackedScorer(model, items).score(*request)
        np.testing.assert_allclose(scores, probability, atol=1e-30)


@pytest.mark.parametrize(("column", "row"), [(0, 11), (4, 4), (3, -1)])
def test_a_row_outside_its_table_is_named(dlrm_config, column: int, row: int) -> None:
    model, items = network(dlrm_config), items_of(dlrm_config)
    request = requests_of(dlrm_config, [4, 4])
    (request[0] if column < 4 else request[2])[1, column % 4] = row
    for scorer in [PackedScorer(model, items), GpuScorer(model, items, CPU)]:
        with pytest.raises(ModelInputError, match=f"column {column} holds row {row}"):
            scorer.score(*request)


def test_wrong_shapes_are_named(dlrm_config) -> None:
    model, items = network(dlrm_config), items_of(dlrm_config)
    user, numbers, context, others, positions = requests_of(dlrm_config, [4, 4])
    scorer = PackedScorer(model, items)
    with pytest.raises(ModelInputError, match="4 categorical and 5 continuous"):
        scorer.score(user[:, :3], numbers, context, others, positions)
    with pytest.raises(ModelInputError, match="number of rows"):
        scorer.score(user, numbers[:1], context, others, positions)
    items.categorical[7, 1] = 5
    with pytest.raises(ModelInputError, match="column 1 holds row 5"):
        PackedScorer(model, items)


def test_memory_is_what_was_said_and_a_bound_is_kept(dlrm_config) -> None:
    model, items = network(dlrm_config), items_of(dlrm_config)
    needed = packed_bytes(dlrm_config, ITEMS)
    packed = make_scorer(model, items, CPU, needed)
    assert isinstance(packed, PackedScorer)
    assert packed.nbytes == needed
    assert isinstance(make_scorer(model, items, CPU, needed - 1), PlainScorer)
    config = DlrmConfig.from_dict({**dlrm_config.to_dict(), **READS})
    for scorer in (PackedScorer(network(config), items), GpuScorer(network(config), items, CPU)):
        assert scorer.nbytes == packed_bytes(config, ITEMS) == needed + 16 * ITEMS


def test_a_million_items_at_the_default_sizes_fit_1700_megabytes() -> None:
    config = DlrmConfig((10, 4, 7, 5), (20, 5, 6, 4), (4,), 1, 1, 4)
    assert packed_bytes(config, 1_000_000) == 1_604_000_000
