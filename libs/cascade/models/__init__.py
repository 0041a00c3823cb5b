"""The two networks, as plain torch modules: nothing here knows of datasets, files of features or training."""

from cascade.models.dlrm import Dlrm, DlrmConfig
from cascade.models.two_tower import CandidateTower, QueryTower, TwoTower, TwoTowerConfig

__all__ = ["CandidateTower", "Dlrm", "DlrmConfig", "QueryTower", "TwoTower", "TwoTowerConfig"]
