"""A plan holds its target, asks for no less when more is wanted, and says which part cannot hold one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cascade.capacity.cluster import SERVED, Cluster
from cascade.capacity.costs import Costs
from cascade.capacity.errors import Infeasible
from cascade.capacity.memory import Shop
from cascade.capacity.nodes import NodeTable
from cascade.capacity.packing import fits
from cascade.capacity.plan import Plan, Target, make_plan
from cascade.capacity.queueing import mean_wait, response_quantile

SHOP = Shop(items=100_000, users=1_000_000, active=100_000)
targets = st.builds(Target, st.floats(1, 5000), st.floats(0.06, 0.5), st.just(SHOP))


@pytest.fixture(scope="module")
def large(costs: Costs, table: NodeTable, cluster: Cluster) -> Plan:
    """Ten million items, a hundred million users."""
    return make_plan(Target(4000, 0.06, Shop(10_000_000, 100_000_000, 10_000_000)), costs, table, cluster)


@settings(max_examples=40, deadline=None)
@given(targets)
def test_what_is_planned_holds(costs: Costs, table: NodeTable, cluster: Cluster, target: Target) -> None:
    plan = make_plan(target, costs, table, cluster)
    assert plan.p99 <= target.p99 + 1e-9
    assert plan.hops + sum(stage.budget for stage in plan.stages) == pytest.approx(target.p99)
    for stage in plan.stages[:-1]:
        asked = cluster.services[stage.name]
        rate = target.rps * (1.1 if stage.name in ("gateway", "filter") else 1.0)
        assert stage.p99 == pytest.approx(response_quantile(rate, stage.service, stage.replicas))
        assert stage.p99 <= stage.budget + 1e-12
        assert stage.replicas >= asked.replicas[0]
        assert stage.utilisation <= asked.cpu_target * asked.cpu + 1e-9
        if stage.name != "gateway":
            assert stage.mean_wait <= asked.target
        # and no fewer would do
        fewer = stage.replicas - 1
        load = rate * stage.service
        assert (
            fewer < asked.replicas[0]
            or load / fewer > asked.cpu_target * asked.cpu
            or response_quantile(rate, stage.service, fewer) > stage.budget
            or mean_wait(rate, stage.service, fewer) > asked.target
        )
    assert all(fits(table, node.kind, node.pods) for node in plan.nodes)
    placed = sum(len(node.pods) for node in plan.nodes)
    assert placed == sum(plan.replicas().values())


@settings(max_examples=40, deadline=None)
@given(targets, st.floats(1, 2), st.floats(0.7, 1))
def test_more_requests_or_less_time_never_take_fewer_replicas(
    costs: Costs, table: NodeTable, cluster: Cluster, target: Target, factor: float, sooner: float
) -> None:
    here = make_plan(target, costs, table, cluster)
    for other in (replace(target, rps=target.rps * factor), replace(target, p99=target.p99 * sooner)):
        try:
            more = make_plan(other, costs, table, cluster)
        except Infeasible:
            continue
        assume(more.demand.packed == here.demand.packed)
        for service, replicas in here.replicas().items():
            assert more.replicas()[service] >= replicas


def test_larger_catalogs_and_more_users_cost_more(costs: Costs, table: NodeTable, cluster: Cluster) -> None:
    hourly = [
        make_plan(Target(2000, 0.1, Shop(items, users, users // 10)), costs, table, cluster).hourly(False)
        for items, users in ((10_000, 100_000), (1_000_000, 1_000_000), (1_000_000, 20_000_000), (10_000_000, 10**8))
    ]
    assert hourly == sorted(hourly)


def test_the_example_tells_what_to_change(large: Plan) -> None:
    notes = "\n".join(large.notes)
    assert "no index of this size was measured" in notes
    assert "set CASCADE_RANKER_PRECOMPUTE_MAX_MB to" in notes
    assert re.search(r"retrieval: \d+ GiB a pod, k8s/base asks for 2", notes)
    assert set(large.replicas()) == {*SERVED, "features"}
    assert large.per_million(True) < large.per_million(False)


def test_json_is_the_plan(large: Plan) -> None:
    told = json.loads(json.dumps(large.to_dict()))
    assert told["p99_s"] == pytest.approx(large.p99)
    assert {pod["service"]: pod["replicas"] for pod in told["pods"]} == large.replicas()
    assert sum(node["count"] for node in told["nodes"]) == len(large.nodes)
    spot = sum(node["count"] * node["spot"] for node in told["nodes"]) + told["redis"]["hourly"]
    assert told["hourly"]["spot"] == pytest.approx(spot)
    assert told["per_million"]["on_demand"] == pytest.approx(told["hourly"]["on_demand"] / (4000 * 3600) * 1e6)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (
            Target(100, 0.005, SHOP),
            r"a p99 of 5 ms cannot be held by any number .*[a-z]+ takes most\. A p99 above \d+ ms",
        ),
        (Target(20_000, 0.1, SHOP), r"redis cannot be held: 44,000 commands/s .* Up to [\d,]+ requests/s can be held"),
        (
            Target(100, 0.2, Shop(10**9, 10**6, 10**5)),
            r"(gateway|ranker) cannot be held: a pod asks for 1 cores, [\d]+ GiB, and the largest node, r7i\.16xlarge",
        ),
        (
            Target(100, 0.05, Shop(10**4, 10**6, 2 * 10**8)),
            r"redis cannot be held: \d+ GiB with reserve \(features \d+, seen items \d+, recent items \d+\)",
        ),
    ],
)
def test_which_part_cannot_hold_it(costs: Costs, table: NodeTable, cluster: Cluster, target: Target, told: str) -> None:
    with pytest.raises(Infeasible, match=told):
        make_plan(target, costs, table, cluster)


def test_the_bound_that_an_error_gives_can_be_held(costs: Costs, table: NodeTable, cluster: Cluster) -> None:
    with pytest.raises(Infeasible) as late:
        make_plan(Target(1, 0.004, SHOP), costs, table, cluster)
    above = re.search(r"A p99 above (\d+) ms", str(late.value))
    assert above is not None
    make_plan(Target(1, (int(above[1]) + 1) / 1000, SHOP), costs, table, cluster)
    with pytest.raises(Infeasible) as much:
        make_plan(Target(50_000, 0.1, SHOP), costs, table, cluster)
    up_to = re.search(r"Up to ([\d,]+) requests/s", str(much.value))
    assert up_to is not None
    make_plan(Target(0.999 * int(up_to[1].replace(",", "")), 0.1, SHOP), costs, table, cluster)


def test_a_gpu_for_each_ranker(costs: Costs, table: NodeTable, cluster: Cluster, tmp_path: Path) -> None:
    measured = tmp_path / "gpu.json"
    measured.write_text(json.dumps({"ranker.gpu.b16.candidates_per_s": 1e7}))
    plan = make_plan(Target(2000, 0.05, SHOP, gpu=measured), costs, table, cluster)
    ranker = next(pod for pod in plan.pods if pod.service == "ranker")
    assert ranker.gpu_memory_gib > 0
    assert sum(node.kind.gpu_memory_gib > 0 for node in plan.nodes) == ranker.replicas
    assert plan.demand.ranker < make_plan(Target(2000, 0.05, SHOP), costs, table, cluster).demand.ranker
    assert json.loads(json.dumps(plan.to_dict()))["target"]["gpu"] == str(measured)


def test_planning_needs_neither_networks_nor_plots() -> None:
    heavy = "('torch', 'faiss', 'feast', 'simpy', 'matplotlib', 'scipy')"
    parts = "import sys; import cascade.capacity.plan, cascade.capacity.tables"
    code = f"{parts}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
