"""What the bench reads of a build."""

from __future__ import annotations

from pathlib import Path

from bench.pipeline import _rows


def test_days_are_counted_and_notes_beside_them_are_not(tmp_path: Path) -> None:
    for name, content in {"2026-01-05": "7", "2026-01-06": "35", "provenance.json": "{}"}.items():
        (tmp_path / name).write_text(content)
    (tmp_path / ".passed").mkdir()
    assert _rows(tmp_path) == 42
