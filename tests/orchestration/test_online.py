"""The online store after its asset ran: what Feast reads there, and that a changed build replaces it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from cascade.online.feast_config import ENTITY, ONLINE_FEATURES, PROFILE_VIEW, feature_store, import_feast
from cascade.settings import Settings
from orchestration.assets.online import online_features
from orchestration.assets.raw import catalog, interactions_asset
from orchestration.provenance import Provenance
from orchestration.workspace import Workspace

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]
FIRST = date(2026, 1, 5)
ITEMS = {"a": "shoes", "b": "hats"}


@pytest.fixture(autouse=True, scope="module")
def feast_imported_as_the_services_do() -> None:
    import_feast()


def write_shop(root: Path) -> None:
    """Six days; on the last one u1 views a hat and buys a shoe, and u2 did something days before."""
    root.mkdir()
    users = {"user_id": ["u1", "u2"], "age": [30, None], "gender": ["F", None]}
    pq.write_table(pa.table(users, pa.schema([("user_id", "string"), ("age", "int32"), ("gender", "string")])),
                   root / "users.parquet")  # fmt: skip
    pq.write_table(pa.table({"item_id": list(ITEMS), "category_l1": list(ITEMS.values())}), root / "items.parquet")
    for number in range(6):
        day = FIRST + timedelta(days=number)
        second = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
        rows = (
            [("u2", "b", second, "view")] if number < 5 else [("u1", "b", second, "view"), ("u1", "a", second, "buy")]
        )
        path = root / "interactions" / f"date={day}" / "part-0.parquet"
        path.parent.mkdir(parents=True)
        columns = dict(
            zip(("user_id", "item_id", "timestamp", "event_type"), map(list, zip(*rows, strict=True)), strict=True)
        )
        pq.write_table(pa.table({**columns, "device_type": ["mobile"] * len(rows)}), path)


def test_feast_reads_what_the_asset_wrote(settings: Settings, tmp_path: Path, redis_url: str) -> None:
    write_shop(tmp_path / "shop")
    own = settings.model_copy(update={"shop": tmp_path / "shop", "redis_url": SecretStr(redis_url)})

    def read(settings: Settings) -> dict[str, dict[str, object]]:
        provenance = Provenance([catalog, interactions_asset(settings), online_features], settings)
        result = dg.materialize([online_features], resources={"workspace": Workspace(settings, provenance)})
        assert result.success
        store = feature_store(settings.feast_dir.absolute() / "registry.db", redis_url)
        users = ["u1", "u2", "nobody"]
        rows = [{ENTITY: user} for user in users]
        answer = store.get_online_features(features=list(ONLINE_FEATURES), entity_rows=rows).to_dict()
        now = datetime(2026, 1, 11, tzinfo=UTC)
        assert store.get_feature_view(PROFILE_VIEW).materialization_intervals[-1][1] == now
        return {user: {name: answer[name][answer[ENTITY].index(user)] for name in answer} for user in users}

    first = read(own.model_copy(update={"event_weights": {"view": 5, "buy": 1}}))
    assert first["u1"] == {ENTITY: "u1", "age": 30.0, "gender": "F", "top_category": "hats"}
    assert first["u2"] == {ENTITY: "u2", "age": None, "gender": None, "top_category": None}
    assert first["nobody"] == {ENTITY: "nobody", "age": None, "gender": None, "top_category": None}
    # other weights, the same events: Feast's own materialisation would keep what it has
    assert read(own.model_copy(update={"event_weights": {"view": 1, "buy": 5}}))["u1"]["top_category"] == "shoes"
