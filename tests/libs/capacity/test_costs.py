"""Where costs come from, what is said of a file that lacks some, and how sizes between those measured are filled in."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.capacity.costs import NAMES, Costs, grown
from cascade.capacity.errors import CapacityFileError

LATEST = Path(__file__).parents[3] / "bench" / "results" / "latest.json"


def packaged() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(resources.files("cascade.capacity").joinpath("data/costs.json").read_text())
    return content


def test_packaged_figures_are_the_benchs() -> None:
    bench, mine = json.loads(LATEST.read_text())["figures"], packaged()["figures"]
    assert sorted(mine) == sorted(NAMES)
    assert {name: one["unit"] for name, one in mine.items()} == {name: bench[name]["unit"] for name in mine}


def test_a_checkout_reads_its_own_and_others_the_packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "packaged" in Costs.load().source
    changed = packaged()
    changed["figures"]["request_path.c16.cpu.gateway"]["value"] = 3.0
    (tmp_path / "bench" / "results").mkdir(parents=True)
    (tmp_path / "bench" / "results" / "latest.json").write_text(json.dumps(changed))
    found = Costs.load()
    assert found.source == "bench/results/latest.json"
    assert found["request_path.c16.cpu.gateway"] == pytest.approx(0.003)


def test_units_become_seconds_and_bytes() -> None:
    costs = Costs.of(packaged(), "x")
    assert costs["catalog_scale.1m.chosen.memory"] == pytest.approx(81_056_871)
    assert 1e-5 < costs["floor.stage.search_flat"] < 1e-2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f.pop("memory.catalog.per_item"), r"lacks memory\.catalog\.per_item; .*areas: memory"),
        (lambda f: f["stages.dlrm.b16"].update(unit="h"), r"stages\.dlrm\.b16 in x is .*give value and unit"),
        (lambda f: f["stages.dlrm.b16"].update(value=0), r"stages\.dlrm\.b16 in x is 0; give a number above 0"),
    ],
)
def test_faults_are_named(change: Any, told: str) -> None:
    content = packaged()
    change(content["figures"])
    with pytest.raises(CapacityFileError, match=told):
        Costs.of(content, "x")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CapacityFileError, match=r"no costs can be read from .*absent"):
        Costs.load(tmp_path / "absent")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(CapacityFileError, match="holds no `figures`"):
        Costs.load(tmp_path / "list.json")


def test_grown_by_hand() -> None:
    points = {100: 1.0, 10_000: 10.0, 1_000_000: 1000.0}
    assert grown(points, 50) == 1.0
    assert grown(points, 1000) == pytest.approx(10**0.5)
    assert grown(points, 100_000) == pytest.approx(100.0)
    assert grown(points, 100_000_000) == pytest.approx(100_000.0)  # the last line goes on
    assert grown({100: 1.0, 10_000: 0.5}, 10_000) == 1.0  # smaller at a larger size is noise


@given(
    st.dictionaries(st.integers(2, 10**7), st.floats(1e-6, 1e3), min_size=2, max_size=5),
    st.integers(1, 10**9),
    st.integers(1, 10**9),
)
def test_grown_never_falls(points: dict[int, float], one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert grown(points, small) <= grown(points, large) * (1 + 1e-9)
