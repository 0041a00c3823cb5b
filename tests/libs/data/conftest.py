from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cascade.data.generator import SIZES, Shop, ShopConfig, generate


@pytest.fixture(scope="session")
def tiny_config() -> ShopConfig:
    return replace(SIZES["tiny"], days=4)


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory, tiny_config: ShopConfig) -> Path:
    """A generated folder that tests only read."""
    root = tmp_path_factory.mktemp("shops") / "tiny"
    generate(root, tiny_config)
    return root


@pytest.fixture
def folder(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the generated folder, to be spoiled."""
    return Path(shutil.copytree(tiny_root, tmp_path / "shop"))


@pytest.fixture(scope="session")
def tiny_shop(tiny_config: ShopConfig) -> Shop:
    return Shop.create(tiny_config)
