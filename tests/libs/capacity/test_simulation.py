"""A short day: the same twice, steady where nothing happens, and each way of scaling sees the crowd as it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simpy
from rich.console import Console

from cascade.capacity.cluster import Cluster
from cascade.capacity.costs import Costs
from cascade.capacity.errors import CapacityError
from cascade.capacity.load_curve import DAY, HOUR, LoadCurve
from cascade.capacity.memory import Shop
from cascade.capacity.node_pool import NodePool
from cascade.capacity.nodes import NodeTable
from cascade.capacity.packing import PodSize
from cascade.capacity.plan import Plan, Target, make_plan
from cascade.capacity.plot import draw
from cascade.capacity.simulation import Day, Settings, compare, simulate
from cascade.capacity.tables import day_table, plan_tables

SHORT = Settings(day_s=2 * HOUR, follow=30)
STEADY = LoadCurve(3000, trough=1.0, flash_factor=1.0, flash_hour=1.0)
CROWD = replace(STEADY, flash_factor=2.5, flash_hour=0.5)


@pytest.fixture(scope="module")
def plan(costs: Costs, table: NodeTable, cluster: Cluster) -> Plan:
    return make_plan(Target(3000, 0.05, Shop(100_000, 1_000_000, 100_000)), costs, table, cluster)


@pytest.fixture(scope="module")
def crowd(plan: Plan, table: NodeTable, cluster: Cluster) -> list[Day]:
    return compare(plan, table, cluster, CROWD, ("cpu", "both"), SHORT)


def test_a_steady_day_needs_what_was_planned(plan: Plan, table: NodeTable, cluster: Cluster) -> None:
    day = simulate(plan, table, cluster, STEADY, "both", SHORT)
    assert len(day.offered) == 119
    assert day.offered == pytest.approx(3000)
    assert day.dropped.max() < 0.01
    late = slice(60, None)
    assert np.median(day.p99[late]) < plan.target.p99
    # the planned numbers are the fewest that the autoscaler leaves alone; its tolerance may leave a tenth more or less
    for service, replicas in day.replicas.items():
        assert np.median(replicas[late]) == pytest.approx(plan.replicas()[service], rel=0.25, abs=1)
    assert day.summary()["cost"] == pytest.approx(day.hourly.sum() / 60)


def test_a_crowd_is_refused_at_first_and_served_later(crowd: list[Day]) -> None:
    for day in crowd:
        before, during, after = day.dropped[:28], day.dropped[30:36], day.dropped[60:]
        assert before.max() < 0.01
        assert during.max() > 0.05
        assert after.max() < 0.01
        assert day.all_replicas[50] > 1.3 * day.all_replicas[20]
        assert day.nodes[40] > day.nodes[20]
        assert day.p99[31:34].max() > day.budget > np.median(day.p99[60:])


def test_the_wait_as_second_metric_helps_sooner(crowd: list[Day]) -> None:
    by_processor, by_both = crowd
    assert by_both.all_replicas[34] > by_processor.all_replicas[34]
    assert by_both.summary()["dropped"] < by_processor.summary()["dropped"]


def test_same_arguments_same_day_and_another_seed_another(plan: Plan, table: NodeTable, cluster: Cluster) -> None:
    short = replace(SHORT, day_s=HOUR / 2)
    one, same = (simulate(plan, table, cluster, CROWD, "wait", short) for _ in range(2))
    other = simulate(plan, table, cluster, CROWD, "wait", replace(short, seed=8))
    assert one.p99.tolist() == same.p99.tolist()
    assert one.hourly.tolist() == same.hourly.tolist()
    assert one.p99.tolist() != other.p99.tolist()


def test_plot_and_tables(crowd: list[Day], plan: Plan, tmp_path: Path) -> None:
    for name in ("day.svg", "day.png"):
        draw(crowd, 0.5, "a crowd", tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5000
    again = tmp_path / "again.svg"
    draw(crowd, 0.5, "a crowd", again)
    assert again.read_bytes() == (tmp_path / "day.svg").read_bytes()
    text = (tmp_path / "day.svg").read_text()
    assert "<svg" in text
    with pytest.raises(CapacityError, match=r"the plot's file is 'day\.pdf'; end it in \.svg or \.png"):
        draw(crowd, 0.5, "", tmp_path / "day.pdf")
    console = Console(width=80, record=True, file=open(tmp_path / "out", "w"))  # noqa: SIM115
    with console.file:
        for shown in (*plan_tables(plan), day_table(crowd)):
            console.print(shown)
        told = console.export_text()
    assert "…" not in told  # nothing is cut in a terminal of 80
    assert "a million requests" in told


# the load curve


def test_load_by_hand() -> None:
    curve = LoadCurve(1000, trough=0.25, peak_hour=20, flash_factor=3, flash_hour=12)
    assert curve.at(20 * HOUR) == pytest.approx(1000, rel=0.01)
    assert curve.at(8 * HOUR) == pytest.approx(250)
    regular = replace(curve, flash_factor=1).at(12 * HOUR + 300)
    assert curve.at(12 * HOUR + 300) == pytest.approx(3 * regular)
    assert curve.at(12 * HOUR + 30) == pytest.approx(2 * replace(curve, flash_factor=1).at(12 * HOUR + 30))
    assert curve.at(-1800) == pytest.approx(replace(curve, flash_factor=1).at(DAY - 1800))


# nodes over time


def pool(env: simpy.Environment, table: NodeTable, cluster: Cluster) -> NodePool:
    return NodePool(env, table, cluster.karpenter, spot=False, pod_start=30, node_start=60)


def test_pods_start_where_there_is_room_and_else_with_a_node(table: NodeTable, cluster: Cluster) -> None:
    env = simpy.Environment()
    nodes = pool(env, table, cluster)
    size = PodSize("ranker", 1, 2)
    nodes.begin([size] * 4)
    free = sum(int(table.room(node.kind)[0]) - len(node.pods) for node in nodes.nodes)
    assert nodes.ready("ranker") == 4
    nodes.scale(size, 4 + free + 3)
    env.run(until=29)
    assert nodes.ready("ranker") == 4
    env.run(until=31)
    assert nodes.ready("ranker") == 4 + free
    env.run(until=60 + 30 + 4)  # pods are gathered for five seconds first
    assert nodes.ready("ranker") == 4 + free
    env.run(until=60 + 30 + 6)
    assert nodes.ready("ranker") == 4 + free + 3


def test_nodes_go_when_their_pods_fit_elsewhere_and_no_service_loses_two(table: NodeTable, cluster: Cluster) -> None:
    env = simpy.Environment()
    nodes = pool(env, table, cluster)
    size = PodSize("ranker", 1, 2)
    nodes.begin([size] * 24)
    before, cost = len(nodes.nodes), nodes.hourly()
    env.run(until=200)
    nodes.scale(size, 8)
    least = 8
    for now in range(240, 3600, 5):
        env.run(until=now)
        least = min(least, nodes.ready("ranker"))
    assert len(nodes.nodes) < before
    assert nodes.hourly() < cost / 1.5
    assert (nodes.ready("ranker"), least) == (8, 7)
    assert all(node.pods for node in nodes.nodes)
    env.run(until=3700)
    nodes.scale(size, 0)
    env.run(until=5000)
    assert nodes.nodes == []
