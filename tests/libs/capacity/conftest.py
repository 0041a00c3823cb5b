"""The packaged figures, nodes and manifests."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from cascade.capacity.cluster import Cluster
from cascade.capacity.costs import Costs
from cascade.capacity.nodes import NodeTable


@pytest.fixture(scope="session")
def costs() -> Costs:
    """Whatever the working folder is."""
    text = resources.files("cascade.capacity").joinpath("data/costs.json").read_text()
    return Costs.of(json.loads(text), "packaged")


@pytest.fixture(scope="session")
def table() -> NodeTable:
    return NodeTable.load()


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster.load()
