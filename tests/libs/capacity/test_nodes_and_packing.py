"""The table of nodes, and pods onto them: nothing overflows, nothing is lost, and what fits nowhere is said."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.capacity.errors import CapacityFileError, Infeasible
from cascade.capacity.nodes import NodeTable
from cascade.capacity.packing import PodSize, cheapest, fits, hourly, pack

pods = st.lists(
    st.builds(
        PodSize, st.sampled_from(["gateway", "ranker"]), st.sampled_from([0.5, 1.0, 2.0]), st.floats(0.1, 100),
    ),
    min_size=1, max_size=40,
)  # fmt: skip

TOML = """as_of = "2030"
note = "mine"
reserved_cpu = 0
reserved_memory_gib = 0
node = [{name = "small", cpu = 4, memory_gib = 8, on_demand = 1.0, spot = 0.1},
        {name = "large", cpu = 8, memory_gib = 16, on_demand = 1.9, spot = 0.5}]
cache = [{name = "c", memory_gib = 10, on_demand = 1.0}]
"""


def written(tmp_path: Path, text: str = TOML) -> Path:
    (tmp_path / "nodes.toml").write_text(text)
    return tmp_path / "nodes.toml"


@settings(max_examples=60, deadline=None)
@given(pods, st.booleans())
def test_every_pod_has_a_place_that_holds_it(table: NodeTable, some: list[PodSize], spot: bool) -> None:
    nodes = pack(table, some, spot=spot)
    assert Counter(pod for node in nodes for pod in node.pods) == Counter(some)
    for node in nodes:
        assert node.pods
        assert fits(table, node.kind, node.pods)
    # no more than half of a service's pods on one node
    for service, count in Counter(pod.service for pod in some).items():
        assert max(sum(pod.service == service for pod in node.pods) for node in nodes) <= max(1, -(-count // 2))
    apart = sum(cheapest(table, [pod], spot).price(spot) for pod in some)
    assert hourly(nodes, spot) <= apart + 1e-9


def test_spot_prices_choose_other_nodes(tmp_path: Path) -> None:
    mine = NodeTable.load(written(tmp_path))
    some = [PodSize("gateway", 2, 3) for _ in range(8)]
    by_demand, by_spot = pack(mine, some), pack(mine, some, spot=True)
    assert {node.kind.name for node in by_demand} == {"large"}
    assert {node.kind.name for node in by_spot} == {"small"}
    assert hourly(by_demand, False) == pytest.approx(2 * 1.9)


def test_gpu_pods_have_gpu_nodes_to_themselves(table: NodeTable) -> None:
    some = [PodSize("ranker", 1, 4, 10.0)] * 3 + [PodSize("gateway", 1, 1)] * 3
    nodes = pack(table, some)
    for node in nodes:
        assert len({pod.gpu for pod in node.pods}) == 1
        assert (node.kind.gpu_memory_gib > 0) == node.pods[0].gpu
    assert sum(node.kind.gpu_memory_gib > 0 for node in nodes) == 3
    assert all(node.kind.name.startswith("g4dn") for node in nodes if node.pods[0].gpu)
    large = pack(table, [PodSize("ranker", 1, 4, 20.0)])
    assert large[0].kind.gpu_memory_gib == 24


def test_what_fits_nowhere_is_said(table: NodeTable, tmp_path: Path) -> None:
    with pytest.raises(Infeasible, match=r"ranker cannot be held: a pod asks for 1 cores, 900 GiB, and the largest"):
        pack(table, [PodSize("ranker", 1, 900)])
    with pytest.raises(Infeasible, match=r"and 80 GiB of a GPU.*has room for .* 24 GiB of a GPU"):
        pack(table, [PodSize("ranker", 1, 4, 80)])
    with pytest.raises(Infeasible, match=r"asks for a GPU, and .* has no node with one"):
        pack(NodeTable.load(written(tmp_path)), [PodSize("ranker", 1, 4, 8)])


def test_packaged_prices_say_when_and_that_they_are_examples(table: NodeTable) -> None:
    assert table.as_of
    assert "examples" in table.note
    names = {node.name.split(".")[0] for node in table.nodes}
    assert {"g4dn", "g5", "g6", "c7i", "m7i"} <= names
    assert all(node.spot < node.on_demand for node in table.nodes)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("cpu = 4", "cpu = -4"), r"node\.0\.cpu is -4: Input should be greater than 0"),
        (('as_of = "2030"', ""), r"as_of is .*Field required"),
        (("spot = 0.1", "sopt = 0.1"), r"node\.0\.spot is .*; node\.0\.sopt is 0\.1: Extra inputs"),
        (("as_of", "as_of ="), r"no nodes can be read from .*nodes\.toml"),
    ],
)
def test_faults_of_a_table_are_named(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    with pytest.raises(CapacityFileError, match=told):
        NodeTable.load(written(tmp_path, TOML.replace(*change, 1)))
