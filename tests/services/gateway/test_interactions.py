"""Interactions of another time; forgetting a user, with a feature store that helps, hangs or is gone."""

import pytest

from cascade.api.common import UserFeatures
from cascade.api.gateway import InteractionRequest
from cascade.online.errors import OnlineStoreDown
from services.gateway.interactions import FromTheFuture, FromThePast, Visitors
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


DAY_S = 86_400


@pytest.mark.parametrize(
    ("off_s", "refused"),
    [
        (0, None),
        (3600, None),
        (3601, FromTheFuture),
        (-7 * DAY_S, None),
        (-30 * DAY_S, None),
        (-30 * DAY_S - 1, FromThePast),
    ],
)
async def test_a_click_may_be_an_hour_ahead_and_thirty_days_late(stages, catalog, now, off_s, refused):
    visitors = Visitors(stages, stages, lambda: catalog, clock=lambda: now)
    request = InteractionRequest(user_id="u", item_id="item-04", timestamp=now + off_s)
    if refused is None:
        assert await visitors.record(request)
        assert stages.recorded[0].timestamp == now + off_s
    else:
        with pytest.raises(refused) as raised:
            await visitors.record(request)
        assert raised.value.field == "timestamp"
        assert not stages.recorded


@pytest.mark.parametrize("timestamp", [0, 4_102_444_800])
async def test_1970_and_2100_are_refused(client, timestamp):
    click = {"user_id": "u", "item_id": "item-04", "timestamp": timestamp}
    response = await client.post("/v1/interactions", json=click)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "timestamp"


async def test_clocks_that_are_an_hour_off_refuse_nobody_who_tells_the_time(stages, catalog, now):
    for skew_s in (-3600, 3600):
        visitors = Visitors(stages, stages, lambda: catalog, clock=lambda skew_s=skew_s: now + skew_s)
        assert await visitors.record(InteractionRequest(user_id="u", item_id="item-04", timestamp=now))
