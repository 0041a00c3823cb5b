"""Every day: the new day's rows with a replay of older ones, both models fine-tuned, judged, bundled, released."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cascade.features.item_table import ItemTable
from cascade.features.masking import Masking
from cascade.features.training_set import TrainingSet
from cascade.features.transforms import ContextTransform, UserTransform
from cascade.settings import Settings
from cascade.store.artifacts import RankerArtifacts, RetrievalArtifacts
from cascade.store.model_store import STABLE
from cascade.store.release import promote
from orchestration import lineage, plots, references
from orchestration.assets.features import ROWS, _write_rows, training_rows
from orchestration.assets.release import note_version, ranker_bundle, retrieval_bundle
from orchestration.assets.training import (
    _summary,
    candidate_index,
    dlrm,
    evaluation_set,
    histories_for,
    training_set,
    two_tower,
)
from orchestration.catalog import retrieval_parts
from orchestration.cluster import TRAINS
from orchestration.forgotten import Forgotten
from orchestration.lineage import MODEL, current_catalog, predecessor
from orchestration.partitions import fine_tuning_days
from orchestration.provenance import reads
from orchestration.references import TRAIN
from orchestration.shown import read_shown, write_shown
from orchestration.workspace import CheckedResult, Making, Workspace

if TYPE_CHECKING:
    from cascade.models.dlrm import Dlrm
    from cascade.training.fine_tuning import FineTuning
    from cascade.training.gates import Tolerances, Verdict

HOLDOUT = "holdout.parquet"
GROUP = "fine_tuning"
POOL = "daily_loop"
"""Runs of the daily loop go one after another (build.py sets the limit)."""
_GATES = ("gate_rows", "gate_slice_rows", "gate_slice_factor")


def daily_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of a day, for the shop these settings name. Models and bundles wait for the day before."""
    days = fine_tuning_days(settings)

    before = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True)

    def day_before(asset: str) -> dg.AssetDep:
        return dg.AssetDep(asset, partition_mapping=before)

    @dg.asset(
        group_name=GROUP,
        code_version="1",
        deps=[training_rows],
        partitions_def=days,
        pool=POOL,
        metadata=reads("event_weights"),
        kinds={"duckdb"},
    )
    def daily_rows(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
    ) -> dg.MaterializeResult[None]:
        """The day's interactions, of the shop and of live traffic, each with what was known of its user just before."""
        day = _day(context, workspace)
        if day not in workspace.dataset.days():
            raise dg.Failure(f"the shop has no interactions of {day}")
        with workspace.making(context, part=context.partition_key) as making:
            _write_rows(workspace, [day], making)
        return making.result()

    @dg.asset(
        group_name=GROUP,
        code_version="3",
        deps=[daily_rows, training_set, evaluation_set],
        partitions_def=days,
        pool=POOL,
        metadata=reads(
            "training_query",
            "mask_share",
            "seed",
            "replay_days",
            "replay_share",
            "holdout_share",
            "click_weights",
            "shown_per_click",
        ),
        kinds={"numpy"},
    )
    def fine_tuning_set(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
    ) -> dg.MaterializeResult[None]:
        """The day's rows but its last part, with a sample of two older days and the evaluation days; masked. And what
        the day's lists showed."""
        day = _day(context, workspace)
        items = current_catalog(workspace).items
        with workspace.making(context, part=context.partition_key, made_of={"items": items.fingerprint}) as making:
            _write_fine_tuning_set(workspace, day, items, making)
        return making.result()

    @dg.asset(
        group_name=GROUP,
        code_version="1",
        deps=[fine_tuning_set, two_tower, candidate_index, retrieval_bundle, day_before("fine_tuned_two_tower")],
        partitions_def=days,
        pool=POOL,
        metadata=reads("two_tower_fine_tuning_rate", "seed", "gate_recall_tolerance", *_GATES),
        tags=TRAINS,
        kinds={"torch"},
    )
    def fine_tuned_two_tower(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
    ) -> dg.MaterializeResult[None]:
        """The query tower after this day, its candidate tower frozen; and what the gates say of it."""
        from cascade.models.two_tower import TwoTower
        from cascade.training.fine_tuning import fine_tune_two_tower
        from cascade.training.gates import RETRIEVAL_METRICS, judge, judged_rows, measure_retrieval, slices_of
        from cascade.training.launch import processes
        from cascade.training.replay import seed_of

        day = _day(context, workspace)
        now, before = current_catalog(workspace), predecessor(workspace, "fine_tuned_two_tower", day)
        made_of = _made_of(workspace, "fine_tuned_two_tower", day, before)
        with workspace.making(context, part=context.partition_key, made_of=made_of) as making:
            model, report = fine_tune_two_tower(
                TwoTower.load(before.model),
                TrainingSet.load(workspace.folder("fine_tuning_set", context.partition_key) / TRAIN),
                now.items,
                _fine_tuning(workspace).two_tower,
                seed=seed_of(workspace.settings.seed, day),
                checkpoint_dir=workspace.checkpoints("fine_tuned_two_tower", making.digest),
                threads=workspace.settings.training_threads,
                processes=processes(workspace.settings.training_processes),
                progress=making.report,
            )
            model.save(making.folder / MODEL)
            stable, version = _serving_retrieval(workspace, day)
            tuned = retrieval_parts(workspace, model.query, now)
            rows = judged_rows(
                _holdout(workspace, day),
                [now.items],
                workspace.settings.gate_rows,
                seed_of(workspace.settings.seed, day),
            )
            slices = slices_of(rows, tuned.user_transform, now.items)
            verdict = judge(
                (version, measure_retrieval(rows, stable, slices, source=workspace.dataset)),
                (f"fine-tuned on {day}", measure_retrieval(rows, tuned, slices, source=workspace.dataset)),
                slices,
                RETRIEVAL_METRICS,
                _tolerances(workspace),
            )
            lineage.write_lineage(making.folder, (*before.days, day), verdict)
            making.metadata |= {**_summary(report), **_came_from(before), **_shown(verdict)}
            making.metadata["candidate_tower"] = str(model.query.candidate_fingerprint)[:12]
        return making.result()

    @dg.asset(
        group_name=GROUP,
        code_version="2",
        deps=[
            fine_tuning_set,
            dlrm,
            ranker_bundle,
            retrieval_bundle,
            day_before("fine_tuned_dlrm"),
            day_before("fine_tuned_two_tower"),
        ],
        partitions_def=days,
        pool=POOL,
        metadata=reads(
            "dlrm_fine_tuning_rate",
            "seed",
            "gate_ndcg_tolerance",
            "gate_auc_tolerance",
            "gate_calibration_tolerance",
            *_GATES,
        ),
        tags=TRAINS,
        kinds={"torch"},
    )
    def fine_tuned_dlrm(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
    ) -> dg.MaterializeResult[None]:
        """The ranker after this day; and what the gates say of it, over the candidates of the retrieval that serves."""
        from cascade.models.dlrm import Dlrm
        from cascade.training.fine_tuning import fine_tune_dlrm
        from cascade.training.gates import RANKER_METRICS, judge, judged_rows, measure_ranker, slices_of
        from cascade.training.launch import processes
        from cascade.training.replay import seed_of

        day = _day(context, workspace)
        items, before = current_catalog(workspace).items, predecessor(workspace, "fine_tuned_dlrm", day)
        made_of = _made_of(workspace, "fine_tuned_dlrm", day, before)
        seed = seed_of(workspace.settings.seed, day)
        with workspace.making(context, part=context.partition_key, made_of=made_of) as making:
            rows = workspace.folder("fine_tuning_set", context.partition_key)
            model, report = fine_tune_dlrm(
                Dlrm.load(before.model),
                TrainingSet.load(rows / TRAIN),
                items,
                _fine_tuning(workspace).dlrm,
                impressions=read_shown(rows),
                seed=seed,
                checkpoint_dir=workspace.checkpoints("fine_tuned_dlrm", making.digest),
                threads=workspace.settings.training_threads,
                processes=processes(workspace.settings.training_processes),
                progress=making.report,
            )
            model.save(making.folder / MODEL)
            retrieval, _ = _serving_retrieval(workspace, day)
            stable, version = _serving_ranker(workspace, day)
            tuned = _ranker(workspace, model)
            asked = judged_rows(_holdout(workspace, day), [items, stable.items], workspace.settings.gate_rows, seed)
            slices = slices_of(asked, tuned.user_transform, items)
            verdict = judge(
                (version, measure_ranker(asked, retrieval, stable, slices, source=workspace.dataset, seed=seed)),
                (
                    f"fine-tuned on {day}",
                    measure_ranker(asked, retrieval, tuned, slices, source=workspace.dataset, seed=seed),
                ),
                slices,
                RANKER_METRICS,
                _tolerances(workspace),
            )
            lineage.write_lineage(making.folder, (*before.days, day), verdict)
            making.metadata |= {**_summary(report), **_came_from(before), **_shown(verdict)}
        return making.result()

    @dg.asset(
        group_name="release",
        code_version="2",
        deps=[fine_tuned_two_tower, day_before("daily_retrieval_bundle")],
        partitions_def=days,
        pool=POOL,
        check_specs=[
            dg.AssetCheckSpec(
                "retrieval_gates",
                asset="daily_retrieval_bundle",
                blocking=True,
                description="Recall@100 on the day's held-out end is not worse than that of the version that serves",
            )
        ],
        metadata=reads("model_store", "seed"),
        kinds={"python"},
    )
    def daily_retrieval_bundle(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
    ) -> CheckedResult:
        """A version of retrieval with this day's query tower; kept whatever the gates say."""
        from cascade.models.two_tower import TwoTower

        day = _day(context, workspace)
        made_of, verdict = _bundled(workspace, "fine_tuned_two_tower", day)
        with workspace.making(context, part=context.partition_key, made_of=made_of) as making:
            now = current_catalog(workspace)
            model = TwoTower.load(workspace.folder("fine_tuned_two_tower", context.partition_key) / MODEL)
            parts = retrieval_parts(workspace, model.query, now)
            parts = replace(parts, reference=references.of_retrieval(workspace, parts, day))
            _write_bundle(workspace, "retrieval", parts, day, made_of, verdict, making)
        return making.result(_check("retrieval_gates", verdict))

    @dg.asset(
        group_name="release",
        code_version="2",
        deps=[fine_tuned_dlrm, day_before("daily_ranker_bundle")],
        partitions_def=days,
        pool=POOL,
        check_specs=[
            dg.AssetCheckSpec(
                "ranker_gates",
                asset="daily_ranker_bundle",
                blocking=True,
                description="NDCG@10, AUC and calibration on the day's held-out end are not worse than what serves",
            )
        ],
        metadata=reads("model_store", "seed"),
        kinds={"python"},
    )
    def daily_ranker_bundle(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> CheckedResult:
        """A version of the ranker with this day's weights; kept whatever the gates say."""
        from cascade.models.dlrm import Dlrm

        day = _day(context, workspace)
        made_of, verdict = _bundled(workspace, "fine_tuned_dlrm", day)
        with workspace.making(context, part=context.partition_key, made_of=made_of) as making:
            model = Dlrm.load(workspace.folder("fine_tuned_dlrm", context.partition_key) / MODEL)
            parts = _ranker(workspace, model)
            retrieval, _ = _serving_retrieval(workspace, day)
            parts = replace(parts, reference=references.of_ranker(workspace, retrieval, parts, day))
            _write_bundle(workspace, "ranker", parts, day, made_of, verdict, making)
        return making.result(_check("ranker_gates", verdict))

    @dg.asset(
        group_name="release",
        code_version="1",
        deps=[daily_retrieval_bundle, daily_ranker_bundle],
        partitions_def=days,
        pool=POOL,
        metadata=reads("model_store"),
        kinds={"python"},
    )
    def daily_release(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
    ) -> dg.MaterializeResult[None]:
        """Both of the day's bundles serve from now on; the gates of both stand before this."""
        day = _day(context, workspace)
        assets = {"ranker": "fine_tuned_dlrm", "retrieval": "fine_tuned_two_tower"}
        refused = [
            f"{asset}: {verdict.reason}"
            for asset in assets.values()
            if not (verdict := lineage.read_verdict(workspace, asset, day)).passed
        ]
        if refused:  # the checks stop this in a run; it may also be asked for alone
            raise dg.Failure("; ".join(refused))
        versions = {service: lineage.version_of(workspace, asset, day) for service, asset in assets.items()}
        with workspace.making(context, part=context.partition_key, made_of=dict(versions)) as making:
            for service, version in versions.items():
                serving = workspace.store.alias(service, STABLE)
                # a day made again, or late, does not take the place of what learned from later ones
                if serving is None or lineage.last_day(workspace, service, serving) <= day:
                    promote(workspace.store, service, version)
                making.metadata[service] = version
                making.metadata[f"{service}_serves"] = str(workspace.store.alias(service, STABLE))
        return making.result()

    return [
        daily_rows,
        fine_tuning_set,
        fine_tuned_two_tower,
        fine_tuned_dlrm,
        daily_retrieval_bundle,
        daily_ranker_bundle,
        daily_release,
    ]


def _day(context: dg.AssetExecutionContext, workspace: Workspace) -> date:
    day = date.fromisoformat(context.partition_key)
    lineage.require_base(workspace, day)
    return day


def _write_fine_tuning_set(workspace: Workspace, day: date, items: ItemTable, making: Making) -> None:
    from cascade.training.replay import fine_tuning_rows, on_table, replayed_days, seed_of, split_by_time

    settings, seed = workspace.settings, seed_of(workspace.settings.seed, day)
    forgotten = Forgotten.of(workspace)
    rows = forgotten.out_of(pq.read_table(workspace.folder("daily_rows", day.isoformat()) / ROWS))
    held_out = split_by_time(np.asarray(rows.column("timestamp"), np.int64), settings.holdout_share)
    pq.write_table(rows.filter(pa.array(held_out)), making.folder / HOLDOUT)
    kept = making.folder / "kept.parquet"
    pq.write_table(rows.filter(pa.array(~held_out)), kept)
    masking = Masking(seed, settings.mask_share, settings.mask_share)
    users = UserTransform.load(workspace.folder("user_transform"))
    new = TrainingSet.build(
        kept,
        users,
        ContextTransform.load(workspace.folder("context_transform")),
        items,
        histories=histories_for(workspace, kept, items),
        masking=masking,
        weights=settings.click_weights,
        progress=making.report,
    )
    kept.unlink()
    until = pc.min(rows.filter(pa.array(held_out)).column("timestamp")).as_py()  # None: nothing is held out
    shown = write_shown(workspace, [day], len(new), items, making.folder, until=until, seed=seed)
    table = ItemTable.load(workspace.folder("item_table"), mmap=True)
    replayed = replayed_days(workspace.split().train, settings.replay_days, seed)
    older = on_table(forgotten.out_of_set(TrainingSet.load(workspace.folder("training_set")), users), table, items)
    judged = forgotten.out_of_set(TrainingSet.load(workspace.folder("evaluation_set")), users)
    evaluation = on_table(judged.masked(masking), table, items)
    together = fine_tuning_rows(new, older, replayed, evaluation, settings.replay_share, seed)
    (making.folder / TRAIN).mkdir()
    together.save(making.folder / TRAIN)
    making.metadata |= {
        "dagster/row_count": len(together),
        "rows_of_the_day": len(new),
        "rows_replayed": len(together) - len(new),
        "rows_held_out": int(held_out.sum()),
        "rows_without_item": new.dropped_rows,
        "shown_in_lists": shown,
        "replayed_days": [str(one) for one in (*replayed, *workspace.split().evaluate)],
    }


def _holdout(workspace: Workspace, day: date) -> pa.Table:
    return pq.read_table(workspace.folder("fine_tuning_set", day.isoformat()) / HOLDOUT)


def _made_of(workspace: Workspace, asset: str, day: date, before: lineage.Predecessor) -> Mapping[str, str | None]:
    return {
        "base": lineage.base_digest(workspace, asset),
        "rows": workspace.recorded("fine_tuning_set", day.isoformat())["digest"],
        "predecessor": before.digest,
        "from": None if before.day is None else before.day.isoformat(),
    }


def _serving_retrieval(workspace: Workspace, day: date) -> tuple[RetrievalArtifacts, str]:
    """What retrieves now, and its name; where that knows the day already, what the day goes on from."""
    from cascade.models.two_tower import TwoTower

    version = lineage.serving_version(workspace, "retrieval", day)
    if version is not None:
        return RetrievalArtifacts.load(workspace.store.bundle("retrieval", version).path), version
    before, now = predecessor(workspace, "fine_tuned_two_tower", day), current_catalog(workspace)
    return retrieval_parts(workspace, TwoTower.load(before.model).query, now), before.name


def _serving_ranker(workspace: Workspace, day: date) -> tuple[RankerArtifacts, str]:
    """What ranks now, likewise."""
    from cascade.models.dlrm import Dlrm

    version = lineage.serving_version(workspace, "ranker", day)
    if version is not None:
        return RankerArtifacts.load(workspace.store.bundle("ranker", version).path), version
    before = predecessor(workspace, "fine_tuned_dlrm", day)
    return _ranker(workspace, Dlrm.load(before.model)), before.name


def _ranker(workspace: Workspace, model: "Dlrm") -> RankerArtifacts:
    return RankerArtifacts(
        UserTransform.load(workspace.folder("user_transform")),
        ContextTransform.load(workspace.folder("context_transform")),
        current_catalog(workspace).items,
        model,
    )


def _bundled(workspace: Workspace, asset: str, day: date) -> tuple[dict[str, str | None], "Verdict"]:
    """What a day's bundle is made of, and what the gates say of it."""
    came_from = workspace.recorded(asset, day.isoformat())["made_of"]["from"]
    parent = lineage.version_of(workspace, asset, None if came_from is None else date.fromisoformat(came_from))
    made_of = {
        "model": workspace.recorded(asset, day.isoformat())["digest"],
        "items": current_catalog(workspace).items.fingerprint,
        "parent": parent,
    }
    return made_of, lineage.read_verdict(workspace, asset, day)


def _write_bundle(
    workspace: Workspace,
    service: str,
    parts: RetrievalArtifacts | RankerArtifacts,
    day: date,
    made_of: Mapping[str, str | None],
    verdict: "Verdict",
    making: Making,
) -> None:
    asset = {"retrieval": "fine_tuned_two_tower", "ranker": "fine_tuned_dlrm"}[service]
    split = workspace.split()
    bundle = workspace.store.write(
        service,
        parts.save,
        training_days=sorted({*split.train, *split.evaluate, *lineage.learned_days(workspace, asset, day)}),
        parent=made_of["parent"],
        lineage=parts.lineage,
        metrics=verdict.metrics(),
        gates=verdict.to_dict(),
    )
    note_version(making, bundle)
    making.metadata |= {"parent": str(made_of["parent"]), "passed": verdict.passed, **parts.lineage}


def _check(name: str, verdict: "Verdict") -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=verdict.reason or "not worse than what serves",
        metadata=_shown(verdict),
    )


def _shown(verdict: "Verdict") -> dict[str, Any]:
    judged = [gate for gate in verdict.gates if gate.passed is not None and gate.worse_by is not None]
    return {
        "passed": verdict.passed,
        "gates": dg.MetadataValue.md(verdict.to_markdown()),
        "gates_plot": plots.gates(
            [f"{gate.metric}, {gate.slice}" for gate in judged],
            [gate.worse_by or 0.0 for gate in judged],
            [gate.tolerance for gate in judged],
            f"{verdict.candidate} against {verdict.stable}",
        ),
    }


def _came_from(before: lineage.Predecessor) -> dict[str, object]:
    return {"from": before.name}


def _fine_tuning(workspace: Workspace) -> "FineTuning":
    from cascade.training.fine_tuning import FineTuning

    settings = workspace.settings
    return FineTuning().with_rates(settings.two_tower_fine_tuning_rate, settings.dlrm_fine_tuning_rate)


def _tolerances(workspace: Workspace) -> "Tolerances":
    from cascade.training.gates import Tolerances

    settings = workspace.settings
    return Tolerances(
        settings.gate_recall_tolerance,
        settings.gate_ndcg_tolerance,
        settings.gate_auc_tolerance,
        settings.gate_calibration_tolerance,
        settings.gate_slice_factor,
        settings.gate_slice_rows,
    )
