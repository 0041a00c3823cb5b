from __future__ import annotations

import json
from pathlib import Path

import pytest

from cascade.training.dlrm_training import DlrmTraining
from cascade.training.errors import TrainingInputError
from cascade.training.parameters import Parameters
from cascade.training.two_tower_training import TwoTowerTraining

TOML = """
[two_tower]
temperature = 1
user_dropout = 1
[two_tower.loop]
epochs = 7
learning_rate = 0.01
[two_tower.network]
dim = 32
hidden = [64, 64]
[dlrm]
negatives = "uniform"
correct_popularity = false
[dlrm.loop]
patience = 3
"""


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "parameters.toml"
    path.write_text(TOML)
    found = Parameters.load(path)
    assert found.two_tower.temperature == 1.0
    assert isinstance(found.two_tower.user_dropout, float)
    assert (found.two_tower.loop.epochs, found.two_tower.loop.learning_rate) == (7, 0.01)
    assert found.two_tower.loop.batch == TwoTowerTraining().loop.batch
    assert dict(found.two_tower_network) == {"dim": 32, "hidden": (64, 64)}
    assert (found.dlrm.negatives, found.dlrm.correct_popularity, found.dlrm.loop.patience) == ("uniform", False, 3)
    assert (found.two_tower_epochs, found.dlrm_epochs) == (True, False)


def test_what_is_written_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "parameters.json"
    path.write_text(json.dumps(Parameters.from_dict({"dlrm": {"user_dropout": 0.2}}).to_dict()))
    found = Parameters.load(path)
    assert found.dlrm.user_dropout == 0.2
    assert found.two_tower == TwoTowerTraining()
    assert Parameters.from_dict({}).dlrm == DlrmTraining()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"ranker": {}}, "has no 'ranker'; it has two_tower, dlrm"),
        ({"two_tower": {"warmth": 1}}, "two_tower has no 'warmth'; it has loop, temperature"),
        ({"two_tower": {"loop": {"epoch": 1}}}, r"two_tower\.loop has no 'epoch'"),
        ({"two_tower": {"network": {"user_cardinalities": [3]}}}, r"network has no 'user_cardinalities'"),
        ({"two_tower": {"temperature": "warm"}}, "temperature is 'warm'; give a number, true or false"),
        ({"dlrm": {"correct_popularity": 1}}, "correct_popularity is 1; give a value like True"),
        ({"dlrm": {"loop": 5}}, "give a table of names and values"),
    ],
)
def test_what_does_not_exist_is_refused(content: dict, message: str) -> None:
    with pytest.raises(TrainingInputError, match=message):
        Parameters.from_dict(content)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingInputError, match=r"nothing\.toml cannot be read"):
        Parameters.load(tmp_path / "nothing.toml")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(TrainingInputError, match="neither TOML"):
        Parameters.load(tmp_path / "broken.json")
