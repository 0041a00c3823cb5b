"""A write is whole or did not happen."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascade.files import replacing, replacing_folder, sha256_of_file


def test_sha256_of_a_known_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    with replacing(target) as temporary:
        temporary.write_text("one")
    with replacing(target) as temporary:
        temporary.write_text("two")
    assert target.read_text() == "two"
    assert list(target.parent.iterdir()) == [target]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def interrupted() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        interrupted()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for name in ("one", "two"):
        with replacing_folder(target) as fresh:
            (fresh / name).touch()
    assert [path.name for path in target.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupted_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with replacing_folder(target) as fresh:
        (fresh / "old").touch()
    with pytest.raises(FileExistsError), replacing_folder(target) as fresh:
        fresh.mkdir()  # fails: it is there
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]
