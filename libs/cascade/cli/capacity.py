"""`cascade capacity`: replicas, memory, nodes and cost; with --simulate, a day of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.common import CommandError, console

_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|µs|ms|s)")


def capacity(
    rps: Annotated[float, typer.Option(min=0.1, help="Recommendations a second, at the peak of a regular day.")] = 500,
    p99: Annotated[str, typer.Option(help="What 99 of 100 answers take at most: 50ms, 0.2s.")] = "50ms",
    catalog: Annotated[int, typer.Option(min=1, help="Items.")] = 100_000,
    users: Annotated[int, typer.Option(min=1, help="Users that the models know.")] = 1_000_000,
    active: Annotated[
        float, typer.Option(min=0, max=1, help="Share of users met within 7 days: seen and recent items in Redis.")
    ] = 0.1,
    events: Annotated[float, typer.Option(min=0, help="Interactions for each recommendation.")] = 0.1,
    spot: Annotated[bool, typer.Option("--spot", help="Choose nodes by spot prices.")] = False,
    speed: Annotated[float, typer.Option(min=0.01, help="Of a node's core, in cores of the bench's machine.")] = 1.0,
    concurrency: Annotated[
        int, typer.Option(help="Load under which the bench took the processor time: 1, 4, 16 or 64.")
    ] = 16,
    hop: Annotated[str, typer.Option(help="A round trip between two pods.")] = "0.5ms",
    costs: Annotated[
        Path | None, typer.Option(help="Measured costs. Default: bench/results/latest.json, else the packaged copy.")
    ] = None,
    nodes: Annotated[Path | None, typer.Option(help="Nodes and prices (TOML). Default: the packaged examples.")] = None,
    gpu: Annotated[
        Path | None, typer.Option(help="A GPU for each ranker: the file that `bench/gpu.py --json` wrote on one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="A day with a flash crowd, by autoscaler and Karpenter; about a minute.")
    ] = False,
    scaling: Annotated[
        list[str] | None, typer.Option(help="With --simulate: wait, cpu or both; again for more. Default: all three.")
    ] = None,
    flash: Annotated[float, typer.Option(min=1, help="What the flash crowd multiplies the load with.")] = 2.0,
    flash_hour: Annotated[float, typer.Option(min=0.5, max=22.5, help="When it comes.")] = 12.0,
    pod_start: Annotated[float, typer.Option(min=0, help="Seconds until a pod is ready.")] = 40.0,
    node_start: Annotated[float, typer.Option(min=0, help="Seconds until a node is ready.")] = 75.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulation.")] = 7,
    plot: Annotated[Path | None, typer.Option(help="With --simulate: draw it into this file, .svg or .png.")] = None,
) -> None:
    """How many replicas, how much memory, which nodes, what it costs; from what was measured.

    Example: cascade capacity --rps 5000 --p99 50ms --catalog 10000000 --users 100000000
    """
    from cascade.capacity.cluster import Cluster
    from cascade.capacity.costs import CONCURRENCIES, Costs
    from cascade.capacity.memory import Shop
    from cascade.capacity.nodes import NodeTable
    from cascade.capacity.plan import Target, make_plan
    from cascade.capacity.tables import day_table, plan_tables

    if concurrency not in CONCURRENCIES:
        raise CommandError(f"--concurrency is {concurrency}; the bench measured {', '.join(map(str, CONCURRENCIES))}")
    if (plot is not None or scaling) and not simulate:
        raise CommandError("--plot and --scaling are of a simulated day: add --simulate")
    target = Target(
        rps=rps, p99=_seconds("--p99", p99), shop=Shop(catalog, users, round(active * users)), events=events,
        hop=_seconds("--hop", hop), speed=speed, concurrency=concurrency, spot=spot, gpu=gpu,
    )  # fmt: skip
    table, cluster = NodeTable.load(nodes), Cluster.load()
    plan = make_plan(target, Costs.load(costs), table, cluster)
    to = console()
    if not as_json:
        for shown in plan_tables(plan):
            to.print(shown)
        for note in plan.notes:
            to.print(f"- {note}", markup=False, highlight=False)
        to.print(f"Costs: {plan.costs_from}. Prices: {plan.prices_from}.", markup=False, highlight=False)
    content = plan.to_dict()
    if simulate:
        from cascade.capacity.load_curve import LoadCurve

        try:
            from cascade.capacity.simulation import SCALINGS, Settings, compare
        except ImportError as error:
            raise CommandError(
                f"a simulated day needs {error.name}: pip install 'cascade-recommender[capacity]'"
            ) from error
        chosen = scaling or list(SCALINGS)
        unknown = sorted(set(chosen) - set(SCALINGS))
        if unknown:
            raise CommandError(f"--scaling is {', '.join(unknown)}; give {', '.join(SCALINGS)}")
        curve = LoadCurve(rps, flash_factor=flash, flash_hour=flash_hour)
        settings = Settings(seed=seed, pod_start=pod_start, node_start=node_start)
        with to.status("Simulating") as status:
            days = compare(
                plan, table, cluster, curve, [one for one in SCALINGS if one in chosen], settings,
                lambda share: None if as_json else status.update(f"Simulating: {share:.0%}"),
            )  # fmt: skip
        content["days"] = [{"scaling": day.scaling, **day.summary()} for day in days]
        if not as_json:
            to.print(day_table(days))
        if plot is not None:
            from cascade.capacity.plot import draw

            title = f"{rps:,.0f} requests/s at the peak, a crowd of {flash:g} times the load at {flash_hour:g} h"
            draw(days, flash_hour, title, plot)
            if not as_json:
                to.print(f"Drawn into {plot}", soft_wrap=True)
    if as_json:
        import json

        typer.echo(json.dumps(content, indent=2))


def _seconds(option: str, text: str) -> float:
    match = _DURATION.fullmatch(text.strip())
    if match is None or float(match[1]) == 0:
        raise CommandError(f"{option} is {text!r}; give a duration like 50ms or 0.2s")
    return float(match[1]) * _SECONDS[match[2]]
