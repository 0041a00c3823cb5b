"""Costs of a request and bytes of a pod: held to what the library's own classes take, and never less for more."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.capacity import demand as demands
from cascade.capacity.costs import CATALOGS, CONCURRENCIES, ITEM_TABLES, MEASURED_CATALOG, Costs, grown
from cascade.capacity.demand import demand, ranker_on_gpu
from cascade.capacity.errors import CapacityFileError
from cascade.capacity.memory import DIM, Shop, bundle_bytes, index_bytes, redis_bytes
from cascade.index.build import FLAT_UP_TO
from cascade.index.structures import STRUCTURES, Stuff
from cascade.models.dlrm import DlrmConfig
from cascade.models.dlrm_scorer import packed_bytes
from cascade.online.generations import SeenShape
from cascade.training.item_to_item import NEIGHBOURS

SHOP = Shop(items=1_000_000, users=5_000_000, active=500_000)


def test_constants_are_the_librarys(costs: Costs) -> None:
    config = DlrmConfig((11, 4, 7, 13), (101, 13, 61, 4), (4,), 1, 1, 4, history_length=50, history_event_types=6)
    assert demands.FLAT_UP_TO == FLAT_UP_TO
    assert costs["memory.packed.per_item"] == packed_bytes(config, 1)
    assert costs["memory.item_to_item.per_item"] == NEIGHBOURS * (4 + 4)
    assert costs["memory.embedding.per_user"] == 4 * config.dim
    assert costs["memory.flat.per_item"] == 4 * DIM
    assert costs["filter.memory.full_user"] <= 1.5 * SeenShape().most_bytes


def test_index_bytes_are_those_measured(costs: Costs) -> None:
    for items, label in CATALOGS.items():
        assert index_bytes(items) == pytest.approx(costs[f"catalog_scale.{label}.chosen.memory"], rel=0.01)


def test_index_bytes_are_faiss_own(tmp_path: Path) -> None:
    vectors = np.random.default_rng(7).standard_normal((30_000, DIM), np.float32)
    index = STRUCTURES["ivf_sq8"].build(Stuff(vectors, 7, 1))
    index.source = "none"
    index.save(tmp_path)
    written = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert index_bytes(30_000) == pytest.approx(written, rel=0.02)


def test_a_measured_catalog_takes_what_was_measured(costs: Costs) -> None:
    for load in CONCURRENCIES:
        found = demand(costs, MEASURED_CATALOG, concurrency=load)
        for name in ("gateway", "retrieval", "filter", "ranker"):
            assert getattr(found, name) == pytest.approx(costs[f"request_path.c{load}.cpu.{name}"])
    million = demand(costs, 1_000_000)
    assert million.search == pytest.approx(costs["catalog_scale.1m.chosen.p50"])
    assert (million.structure, million.measured) == ("ivf_sq8", True)
    assert not demand(costs, 1_000_001).measured
    assert demand(costs, FLAT_UP_TO).structure == "flat"


@given(st.integers(1, 10**8), st.integers(1, 10**8), st.booleans())
def test_larger_catalogs_take_no_less(costs: Costs, one: int, other: int, packed: bool) -> None:
    small, large = (demand(costs, items, packed=packed) for items in sorted((one, other)))
    for name in ("retrieval", "ranker", "search"):
        assert getattr(small, name) <= getattr(large, name) * (1 + 1e-9)
    assert demand(costs, one, packed=True).ranker <= demand(costs, one, packed=False).ranker


def test_faster_cores_take_less(costs: Costs) -> None:
    slow, fast = demand(costs, 10**6), demand(costs, 10**6, speed=2.0)
    assert fast.ranker == pytest.approx(slow.ranker / 2)


@given(
    st.builds(Shop, st.integers(1, 10**8), st.integers(1, 10**9), st.integers(0, 10**8)),
    st.sampled_from(["items", "users", "active"]),
)
def test_more_of_anything_takes_no_less_memory(costs: Costs, shop: Shop, what: str) -> None:
    larger = replace(shop, **{what: 2 * getattr(shop, what) + 1})
    for service, parts in bundle_bytes(costs, shop).items():
        assert sum(parts.values()) <= sum(bundle_bytes(costs, larger)[service].values())
    assert sum(redis_bytes(costs, shop).values()) <= sum(redis_bytes(costs, larger).values())


def test_memory_by_hand(costs: Costs) -> None:
    ranker = bundle_bytes(costs, SHOP)["ranker"]
    assert ranker["precomputed items"] == 1_620_000_000
    assert ranker["towers' items"] + ranker["items of items"] == 1_000_000 * (3 * 256 + 800)
    assert ranker["towers' user table"] == ranker["user table"]
    assert ranker["user table"] == 5_000_000 * 256
    assert "precomputed items" not in bundle_bytes(costs, SHOP, packed=False)["ranker"]
    assert bundle_bytes(costs, SHOP)["filter"] == {}
    assert redis_bytes(costs, SHOP)["seen items"] == 500_000 * 4088


def test_gpu_needs_figures_of_one(costs: Costs, tmp_path: Path) -> None:
    measured = tmp_path / "gpu.json"
    measured.write_text(json.dumps({"ranker.gpu.b16.candidates_per_s": 3_000_000.0}))
    fast = ranker_on_gpu(costs, 100_000, measured)
    on_cpu = demand(costs, 100_000).ranker
    network = grown({size: costs[f"stages.items.{size}.dlrm"] for size in ITEM_TABLES}, 100_000)
    assert fast == pytest.approx(on_cpu - network + 300 / 3e6)
    measured.write_text(json.dumps({"ranker.the_gpus_code_on_the_cpu.b16.candidates_per_s": 1.0}))
    with pytest.raises(CapacityFileError, match=r"nothing is planned for a GPU that was not measured; run"):
        ranker_on_gpu(costs, 100_000, measured)
