"""`cascade users`: asks the gateway, waits until it is done, shows the receipt."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from cascade.cli.main import app

RECEIPT = {
    "receipt": "0123456789abcdef", "status": "pending", "user": "d" * 64, "asked": "2026-01-05T00:00:00+00:00",
    "finished": None, "removed": {"history": 2}, "days": [], "checkpoints": [], "remarks": [],
}  # fmt: skip
DONE = {
    **RECEIPT, "status": "done", "finished": "2026-01-05T00:00:03+00:00", "removed": {"history": 2, "interactions": 7},
    "days": ["2026-01-04"], "remarks": ["a remark"],
    "checkpoints": [
        {"service": "ranker", "version": "v1", "aliases": ["stable"], "days": [], "replaced": "by a retrain"}
    ],
}  # fmt: skip


@pytest.fixture
def gateway(monkeypatch, tmp_path):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            asked.append((self.command, self.path, self.headers.get("authorization")))
            found = self.path != "/v1/forgettings/ffffffffffffffff"
            body = (DONE if self.command == "GET" else RECEIPT) if found else {"title": "Unknown receipt"}
            content = json.dumps(body).encode()
            self.send_response(200 if found else 404)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_DELETE = answer  # noqa: N815  (the library's names)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("CASCADE_GATEWAY_PORT", str(server.server_port))
        monkeypatch.setenv("CASCADE_API_KEY", "a-key")
        yield asked
        server.shutdown()
        thread.join()


def test_forget_waits_and_shows(gateway):
    done = CliRunner().invoke(app, ["users", "forget", "u/1"])
    assert done.exit_code == 0, done.output
    assert gateway[0] == ("DELETE", "/v1/users/u%2F1", "Bearer a-key")
    assert gateway[1][:2] == ("GET", "/v1/forgettings/0123456789abcdef")
    for told in ("done", "interactions: 7", "2026-01-04", "ranker v1 (stable)", "by a retrain", "a remark"):
        assert told in done.output


def test_receipt(gateway):
    assert "done" in CliRunner().invoke(app, ["users", "receipt", "0123456789abcdef"]).output
    unknown = CliRunner().invoke(app, ["users", "receipt", "f" * 16])
    assert unknown.exit_code == 1
    assert "404" in unknown.output
