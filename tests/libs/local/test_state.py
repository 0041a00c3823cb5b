"""The lock, the process table and the marks of a run."""

import pytest

from cascade.local.errors import AlreadyRunning, NotRunning, UnknownPart
from cascade.local.state import PartStatus, RunFolder, RunStatus

STATUS = RunStatus(
    run_id="r", pid=1, phase="ready", parts=[PartStatus(name="filter", address="http://x", state="running")]
)


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def test_one_supervisor_at_a_time(folder):
    assert not folder.is_held()
    with folder.locked():
        assert folder.is_held()
        with pytest.raises(AlreadyRunning, match="cascade down"), folder.locked():
            pass
    assert not folder.is_held()
    with folder.locked():
        pass


def test_the_table_is_of_a_living_run_only(folder):
    assert folder.read() is None
    with pytest.raises(NotRunning, match="cascade up"):
        folder.running()
    with folder.locked():
        folder.write(STATUS)
        assert folder.running() == STATUS
    with pytest.raises(NotRunning):
        folder.running()
    assert folder.read() == STATUS  # what a killed run leaves is still known
    folder.remove_table()
    assert folder.read() is None


def test_a_table_that_is_none_is_none(folder):
    folder.path.mkdir()
    (folder.path / "run.json").write_text("{")
    assert folder.read() is None


def test_an_unknown_part_is_told_with_the_known_ones():
    assert STATUS.part("filter").state == "running"
    with pytest.raises(UnknownPart, match=r"'ranker'.*filter"):
        STATUS.part("ranker")


def test_marks(folder):
    assert not folder.is_marked("filter")
    folder.mark_stopped("filter")
    assert folder.is_marked("filter")
    folder.unmark("filter")
    assert not folder.is_marked("filter")
    folder.mark_stopped("filter")
    folder.clear_marks()
    assert not folder.is_marked("filter")


def test_the_token_is_its_owners_alone_and_goes_with_the_run(folder):
    assert folder.token() is None
    with folder.locked():
        folder.write_token("of an earlier run")
        (folder.path / "internal.token").chmod(0o644)  # whatever the file before was like
        folder.write_token("secret")
        assert folder.token() == "secret"
        assert (folder.path / "internal.token").stat().st_mode & 0o777 == 0o600
        folder.remove_table()
        assert folder.token() is None
