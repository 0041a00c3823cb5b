"""The built-in shop is Cascade's to write again; what its visitors did is not."""

from __future__ import annotations

from pathlib import Path

from orchestration.assets.raw import _remove_all_but_live_traffic


def test_everything_goes_but_live_traffic(tmp_path: Path) -> None:
    kept = [tmp_path / part / "date=2026-01-05" / "live-1.parquet" for part in ("interactions", "impressions")]
    gone = [tmp_path / "users.parquet", kept[0].with_name("part-0.parquet"), tmp_path / "images" / "a.png"]
    for path in (*kept, *gone):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")

    _remove_all_but_live_traffic(tmp_path)

    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert not (tmp_path / "images").exists()
    _remove_all_but_live_traffic(tmp_path / "not there")
