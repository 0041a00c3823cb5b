"""A plan and a simulated day as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from cascade.capacity.plan import REDIS_NODES, Plan, counted

if TYPE_CHECKING:
    from cascade.capacity.simulation import Day

PARTS = "a bundle, GiB"


def _table(title: str, *columns: str) -> Table:
    # narrow throughout: nine columns in a terminal of 80
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 or column == PARTS else "right")
    return table


def plan_tables(plan: Plan) -> list[Table]:
    """Stages, pods, Redis, nodes, cost."""
    target = plan.target
    stages = _table(
        f"{target.rps:,.0f} requests/s within {1000 * target.p99:g} ms, {target.shop.items:,} items, "
        f"{target.shop.users:,} users\n(times in ms)",
        "stage", "pods", "needed for", "busy", "service", "mean wait", "p99", "of its",
    )  # fmt: skip
    for stage in plan.stages:
        stages.add_row(
            stage.name, str(stage.replicas), stage.because, f"{stage.utilisation:.0%}",
            *(f"{1000 * seconds:.2f}" for seconds in (stage.service, stage.mean_wait, stage.p99, stage.budget)),
        )  # fmt: skip
    stages.add_row("hops", "", "", "", "", "", f"{1000 * plan.hops:.2f}", "")
    stages.add_section()
    stages.add_row("sum", "", "", "", "", "", f"{1000 * plan.p99:.2f}", f"{1000 * target.p99:.2f}")
    pods = _table("Pods", "service", "pods", "cores", "GiB a pod", "GPU GiB", PARTS)
    for pod in plan.pods:
        parts = ", ".join(f"{name} {gib:.1f}" for name, gib in pod.parts.items() if gib >= 0.05)
        gpu = f"{pod.gpu_memory_gib:.0f}" if pod.gpu_memory_gib else ""
        pods.add_row(pod.service, str(pod.replicas), f"{pod.cpu:g}", f"{pod.memory_gib:.1f}", gpu, parts)
    redis = ", ".join(f"{name} {gib:.1f}" for name, gib in plan.redis_gib.items())
    pods.add_row("redis", str(REDIS_NODES), "", f"{plan.cache.memory_gib:.0f}", "", redis)
    nodes = _table("Nodes", "type", "nodes", "on demand $/h", "spot $/h")
    for (name, kind), count in counted(plan.nodes).items():
        nodes.add_row(name, str(count), f"{count * kind.on_demand:.2f}", f"{count * kind.spot:.2f}")
    nodes.add_row(plan.cache.name, str(REDIS_NODES), f"{plan.redis_hourly:.2f}", f"{plan.redis_hourly:.2f}")
    nodes.add_section()
    nodes.add_row("all", str(len(plan.nodes) + REDIS_NODES), f"{plan.hourly(False):.2f}", f"{plan.hourly(True):.2f}")
    nodes.add_row("a million requests", "", f"{plan.per_million(False):.2f} $", f"{plan.per_million(True):.2f} $")
    return [stages, pods, nodes]


def day_table(days: Sequence[Day]) -> Table:
    """One row for each way of scaling."""
    table = _table(
        "A day through autoscaler and Karpenter: pods and nodes as mean, most",
        "scaled by", "p99", "worst", "late min", "dropped", "degraded", "pods", "nodes", "$",
    )  # fmt: skip
    for day in days:
        one = day.summary()
        table.add_row(
            day.scaling, f"{1000 * one['p99_s']:.0f}", f"{1000 * one['worst_minute_p99_s']:.0f}",
            f"{one['late_minutes']:.0f}", f"{one['dropped']:.2%}", f"{one['degraded']:.2%}",
            *(f"{one[f'mean_{what}']:.0f}, {one[f'most_{what}']:.0f}" for what in ("replicas", "nodes")),
            f"{one['cost']:,.0f}",
        )  # fmt: skip
    return table
