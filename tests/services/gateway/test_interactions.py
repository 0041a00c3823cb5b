"""Forgetting a user, with a feature store that helps, hangs or is gone."""

import pytest

from cascade.api.common import UserFeatures
from cascade.online.errors import OnlineStoreDown
from services.gateway.interactions import Visitors
from services.gateway.ports import StageDown, StageLate


@pytest.fixture
def visitors(stages, catalog):
    return Visitors(stages, stages, lambda: catalog, forget_s=0.01)


async def test_what_was_removed_is_counted(visitors, stages):
    stages.features["u"] = UserFeatures(user_id="u")
    assert await visitors.forget("u") == {"history": 2, "features": 1}
    assert await visitors.forget("u") == {"history": 2, "features": 0}


async def test_a_store_that_hangs_is_late(visitors, stages):
    stages.slow.add("features")
    with pytest.raises(StageLate):
        await visitors.forget("u")


@pytest.mark.parametrize(
    ("stage", "error"), [("features", OnlineStoreDown("gone")), ("filter", StageDown("filter", "gone"))]
)
async def test_nothing_is_called_forgotten_that_is_not(visitors, stages, stage, error):
    stages.failing[stage] = error
    with pytest.raises(type(error)):
        await visitors.forget("u")
