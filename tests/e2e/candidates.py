"""Versions beside the stable ones, for tests that release or try them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from cascade.store import ModelStore
from cascade.store.artifacts import GatewayArtifacts, RankerArtifacts, RetrievalArtifacts


def louder(module: torch.nn.Module, factor: float = 1.01) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(factor)


def another_ranker(bundle: RankerArtifacts) -> RankerArtifacts:
    louder(bundle.dlrm)
    return bundle


def another_retrieval(bundle: RetrievalArtifacts) -> RetrievalArtifacts:
    louder(bundle.query_tower)
    return bundle


def another_gateway(bundle: GatewayArtifacts) -> GatewayArtifacts:
    return replace(bundle, popularity=replace(bundle.popularity, global_=bundle.popularity.global_[1:]))


MAKE: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "ranker": (RankerArtifacts, another_ranker),
    "retrieval": (RetrievalArtifacts, another_retrieval),
    "gateway": (GatewayArtifacts, another_gateway),
}


def write_another(store: ModelStore, service: str, change: Callable[[Any], Any] | None = None) -> str:
    """A version that differs from the stable one; returns it. change: parts → parts; None: one that is as good."""
    kind, as_good = MAKE[service]
    stable = store.bundle(service, "stable")
    parts = (change or as_good)(kind.load(stable.path))
    return store.write(
        service,
        parts.save,
        training_days=stable.manifest.training_days,
        parent=stable.version,
        lineage=stable.manifest.lineage,
    ).version
