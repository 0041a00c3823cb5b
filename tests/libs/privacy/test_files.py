"""A user's rows go from every file, and nobody else's do."""

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.privacy.files import erase_rows

# Long enough that no file holds them by chance.
USERS = st.sampled_from(["somebody", "somebody-1", "other", "ümläut/ 2", None])


@settings(max_examples=25, deadline=None)
@given(
    files=st.lists(st.lists(st.tuples(USERS, st.integers(0, 9)), max_size=8), min_size=1, max_size=4),
    user=st.sampled_from(["somebody", "ümläut/ 2"]),
)
def test_the_user_goes_and_everybody_else_stays_in_order(tmp_path_factory, files, user):
    folder = tmp_path_factory.mktemp("rows")
    names = ["date=2026-01-05/part-0.parquet", "date=2026-01-05/live-1-a.parquet"]
    names += ["date=2026-01-06/.live-2-b.parquet.part", "deeper/down/rows.parquet"]
    for name, rows in zip(names, files, strict=False):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        users, values = [user for user, _ in rows], [value for _, value in rows]
        pq.write_table(pa.table({"user_id": pa.array(users, pa.string()), "v": pa.array(values, pa.int64())}), path)

    erased = erase_rows(folder, user)

    assert erased.rows == sum(one == user for rows in files for one, _ in rows)
    for name, rows in zip(names, files, strict=False):
        kept = [row for row in rows if row[0] != user]
        path = folder / name
        if not path.exists():
            assert (kept, "live-" in name, bool(rows)) == ([], True, True)
            continue
        table = pq.read_table(path, partitioning=None)
        assert list(zip(table["user_id"].to_pylist(), table["v"].to_pylist(), strict=True)) == kept
        assert user.encode() + b"\0" not in path.read_bytes()
    assert not list(folder.rglob(".*.parquet.*.part")), "nothing is left beside"
    assert erase_rows(folder, user).rows == 0


def test_days_and_requests_are_told_and_what_cannot_be_read_is_named(tmp_path):
    table = pa.table({"user_id": ["u", "v"], "request_id": ["r1", "r2"]})
    for name in ("date=2026-01-05/a.parquet", "date=2026-01-07/b.parquet"):
        (tmp_path / name).parent.mkdir()
        pq.write_table(table, tmp_path / name)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    pq.write_table(pa.table({"value": ["u"]}), tmp_path / "vocabulary.parquet")
    before = (tmp_path / "vocabulary.parquet").read_bytes()

    erased = erase_rows(tmp_path, "u")

    assert erased.days == {dt.date(2026, 1, 5), dt.date(2026, 1, 7)}
    assert (erased.rows, erased.files, erased.requests) == (2, 2, {"r1"})
    assert erased.unreadable == ["broken.parquet"]
    assert (tmp_path / "vocabulary.parquet").read_bytes() == before


def test_a_removal_that_fails_leaves_the_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"user_id": ["u", "v"]}), path)

    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr("cascade.privacy.files.pq.write_table", full)
    with pytest.raises(OSError, match="no space"):
        erase_rows(tmp_path, "u")
    monkeypatch.undo()
    assert pq.read_table(path)["user_id"].to_pylist() == ["u", "v"]
    assert list(tmp_path.iterdir()) == [path]
