from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cascade.api.impressions import Impression, ImpressionItem, Served
from cascade.data.contract import IMPRESSIONS, day_folder
from cascade.data.shown_lists import shown_lists
from services.features.rows import IMPRESSION_SCHEMA, impression_table

HOUR = 1_767_614_400  # 2026-01-05T12:00 UTC
DAY = date(2026, 1, 5)


def shown(at: int, items: int, served: Served | None = None, propensity: float = 1.0) -> Impression:
    return Impression(
        request_id=f"r{at}",
        user_id="u1",
        timestamp=at,
        device_type=None,
        items=[
            ImpressionItem(item_id=f"i{place}", position=place, score=0.5 - place / 10, propensity=propensity)
            for place in range(items)
        ],
        versions={"ranker": "v1"},
        tracks={"ranker": "stable"},
        served=served,
    )


def write(root: Path, name: str, lists: list[Impression], day: date = DAY, **changes: object) -> None:
    table = impression_table([(f"{name}-{number}", one) for number, one in enumerate(lists)], {})
    for column, value in changes.items():
        table = (
            table.drop_columns(column) if value is None else table.append_column(column, pa.array([value] * len(table)))
        )
    folder = root / IMPRESSIONS / day_folder(day)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / name)


def test_lists_of_the_hour_and_their_first_places(tmp_path: Path) -> None:
    asked = Served(age=30.0, gender=None, top_category="hats", recent=3)
    moments = [HOUR - 1, HOUR, HOUR + 3599, HOUR + 3600]
    write(tmp_path, "live-1.parquet", [shown(at, 4, asked if at == HOUR else None) for at in moments])

    found = shown_lists(tmp_path, HOUR, HOUR + 3600, 3)

    assert found.timestamp.tolist() == [HOUR, HOUR + 3599]
    assert found.item_ids.tolist() == [["i0", "i1", "i2"]] * 2
    np.testing.assert_allclose(found.score, [[0.5, 0.4, 0.3]] * 2)
    assert found.is_sampled.tolist() == [True, False]
    assert found.lists.column("served")[0].as_py() == asked.model_dump()
    assert found.certain.all()
    assert found.take(found.is_sampled).timestamp.tolist() == [HOUR]


def test_short_lists_and_drawn_ones_are_told(tmp_path: Path) -> None:
    write(tmp_path, "live-1.parquet", [shown(HOUR, 2), shown(HOUR + 1, 3, propensity=0.5)])

    found = shown_lists(tmp_path, HOUR, HOUR + 3600, 3)

    assert found.item_ids[0].tolist() == ["i0", "i1", None]
    assert np.isnan(found.score[0, 2])
    assert found.certain.tolist() == [True, False]


def test_files_of_an_earlier_release_and_a_shops_own_are_read_as_far_as_they_tell(tmp_path: Path) -> None:
    write(tmp_path, "live-old.parquet", [shown(HOUR, 3)], served=None)
    write(tmp_path, "part-0.parquet", [shown(HOUR + 1, 3)])
    write(tmp_path, "live-bare.parquet", [shown(HOUR + 2, 3)], versions=None)

    found = shown_lists(tmp_path, HOUR, HOUR + 3600, 3)

    assert found.timestamp.tolist() == [HOUR]
    assert not found.is_sampled.any()


def test_a_window_over_midnight_has_both_days(tmp_path: Path) -> None:
    midnight = HOUR + 12 * 3600
    write(tmp_path, "live-1.parquet", [shown(midnight - 1, 3)])
    write(tmp_path, "live-2.parquet", [shown(midnight, 3)], date(2026, 1, 6))

    assert len(shown_lists(tmp_path, midnight - 3600, midnight + 3600, 3)) == 2
    assert len(shown_lists(tmp_path, midnight - 3600, midnight, 3)) == 1


def test_where_nothing_was_shown_there_is_nothing(tmp_path: Path) -> None:
    found = shown_lists(tmp_path, HOUR, HOUR + 3600, 3)

    assert len(found) == 0
    assert found.item_ids.shape == (0, 3)
    assert "served" in IMPRESSION_SCHEMA.names
