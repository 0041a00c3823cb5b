from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from urllib.parse import quote

import pytest
import structlog

from cascade.serving import context
from cascade.serving.logging import configure_logging, get_logger


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level, handlers = structlog.get_config(), root.level, list(root.handlers)
    configured = structlog.is_configured()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    if configured:
        structlog.configure(**before)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_lines_are_json_with_service_and_request_id(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json", force=True)
    id_token, service_token = context.request_id.set("r1"), context.service.set("demo")
    get_logger("here").info("hello", number=1, odd={1, 2}, big=2**80, broken="\ud800")
    context.request_id.reset(id_token)
    context.service.reset(service_token)
    get_logger("here").debug("not shown")
    [line] = lines(capsys)
    assert {"event": "hello", "service": "demo", "request_id": "r1", "level": "info"}.items() <= {
        name: str(value).strip("'") for name, value in line.items()
    }.items()


def test_tracebacks_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json", force=True)
    try:
        raise KeyError("gone")
    except KeyError:
        get_logger("here").exception("failed")
    [line] = lines(capsys)
    assert line["event"] == "failed"
    assert "KeyError: 'gone'" in str(line["exception"])


def test_other_loggers_take_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json", force=True)
    logging.getLogger("uvicorn.error").info("started %s", "now")
    [line] = lines(capsys)
    assert (line["event"], line["logger_name"], line["level"]) == ("started now", "uvicorn.error", "info")


def test_console_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "console", force=True)
    get_logger("here").info("hello", number=1)
    assert "hello" in capsys.readouterr().out


def test_the_first_configuration_stays(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", "json", force=True)
    configure_logging("debug", "console")
    get_logger("here").info("not shown")
    assert lines(capsys) == []


@pytest.mark.parametrize("user", ["u-1", "a user/with: everything? é", "history", "x/events/y"])
def test_users_can_be_hashed(capsys: pytest.CaptureFixture[str], user: str) -> None:
    configure_logging("info", "json", hash_users=True, force=True)
    digest = hashlib.sha256(user.encode()).hexdigest()[:16]
    log = get_logger("here")
    log.info("request", path=f"/v1/users/{user}", route="/v1/users/{user_id:path}")
    log.info("request", path=f"/v1/users/{user}/history", user_id=user)
    log.warning("failed", error=f"DELETE /v1/seen/{quote(user, safe='')}: late")
    log.info("request", path="/v1/recommendations")
    first, second, third, fourth = lines(capsys)
    assert (first["path"], first["route"]) == (f"/v1/users/{digest}", "/v1/users/{user_id:path}")
    assert (second["path"], second["user_id"]) == (f"/v1/users/{digest}/history", digest)
    assert third["error"] == f"DELETE /v1/seen/{digest}: late"
    assert fourth["path"] == "/v1/recommendations"
