"""`cascade keys`: the key is printed once; the file and the list hold no secret."""

import pytest
from typer.testing import CliRunner

from cascade.access.api_keys import KeyFile, KeyRing
from cascade.cli.main import app


@pytest.fixture
def cascade(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CASCADE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, ["keys", *arguments])


def test_create_list_revoke(cascade, tmp_path):
    file = KeyFile(tmp_path / "state" / "api-keys.json")
    made = cascade(
        "create", "shop backend", "--scope", "recommend", "--scope", "interact", "--days", "30", "--rate", "5"
    )
    assert made.exit_code == 0, made.output
    text = made.output.strip().splitlines()[-1]
    key = KeyRing(file.read()).find(text.encode())
    assert (key.name, sorted(key.scopes), key.rate) == ("shop backend", ["interact", "recommend"], 5)
    assert 29 < (key.expires - key.created).total_seconds() / 86_400 <= 30

    listed = cascade("list").output
    assert key.id in listed
    assert "shop backend" in listed
    assert text.split("_", 2)[2] not in listed + file.path.read_text()

    assert cascade("revoke", key.id).exit_code == 0
    assert file.read() == []


def test_what_is_no_key(cascade):
    assert cascade("create", "x", "--scope", "everything").exit_code == 2
    assert cascade("create", "x" * 101, "--scope", "admin").exit_code == 1
    assert cascade("list").exit_code == 0
    assert cascade("revoke", "00000000").exit_code == 1
