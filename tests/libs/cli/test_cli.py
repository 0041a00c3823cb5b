"""The command line: what it explains, how it fails, what it asks the gateway."""

import io
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cascade.cli import app
from cascade.cli.common import CommandError
from cascade.cli.evaluate import write_report
from cascade.cli.evaluation_tables import table_of
from cascade.cli.recommend import problem_sentence, utc_seconds
from cascade.online.server import free_port
from cascade.training.report import EvaluationReport, EvaluationRow

ANSWER = {
    "request_id": "r",
    "user_id": "u[1]",
    "items": [
        {
            "item_id": "[bold]1",
            "title": "Red [shoe]",
            "description": "",
            "category_l1": "shoes",
            "category_l2": "boots",
            "price": 19.99,
            "gender": None,
            "image": None,
            "score": 0.123,
        },
        {
            "item_id": "2",
            "title": "Hat",
            "description": "",
            "category_l1": "hats",
            "category_l2": "caps",
            "price": None,
            "gender": None,
            "image": None,
            "score": None,
        },
    ],
    "degraded": ["ranker"],
    "timings": dict.fromkeys(
        ("features_ms", "retrieval_ms", "filter_ms", "ranker_ms", "metadata_ms", "total_ms"), 1.25
    ),
    "versions": {"retrieval": {"version": "v7", "track": "stable"}},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("CASCADE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("CASCADE_GATEWAY_PORT", str(free_port()))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture
def gateway(monkeypatch, run):
    """A gateway that notes the request and answers `gateway.answer`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            server.asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, body = server.answer
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.answer = (200, ANSWER)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("CASCADE_GATEWAY_PORT", str(server.server_port))
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("command", ["up", "down", "status", "stop", "start", "recommend", "demo", "evaluate", "tune"])
def test_each_command_explains_itself_with_an_example(run, command):
    assert command in run("--help").output
    output = run(command, "--help").output
    assert f"Example: cascade {command}" in output


def test_data_commands_are_mounted(run):
    output = run("data", "--help").output
    for command in ("generate", "import-retail-demo-store", "validate"):
        assert command in output


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from typer.testing import CliRunner; from cascade.cli import app;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        "heavy = {'numpy', 'pyarrow', 'torch', 'fastapi', 'httpx', 'pydantic', 'redis', 'psutil', 'dagster', 'feast'};"
        "found = heavy & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_beside_the_client_alone_it_says_what_is_missing():
    program = "import sys; sys.modules['typer'] = None; import cascade.cli"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == "the command needs more than the client: pip install 'cascade-recommender[core]'"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("status",), "Cascade does not run from"),
        (("stop", "ranker"), "Cascade does not run from"),
        (("start", "ranker"), "Cascade does not run from"),
        (("demo", "--no-pause"), "start it with `cascade up`"),
        (("recommend", "u"), "does not answer; start it with `cascade up`"),
        (("recommend", "u", "--at", "yesterday"), "'yesterday' is not a time"),
        (("up", "--shop", "no-such-folder"), "there is no folder no-such-folder"),
        (("evaluate",), "there is no dataset at"),
    ],
)
def test_errors_are_one_sentence(run, command, sentence):
    result = run(*command)
    assert result.exit_code == 1
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_settings_at_fault_are_named(run, monkeypatch):
    monkeypatch.setenv("CASCADE_RANKER_PORT", "many")
    result = run("status")
    assert result.exit_code == 1
    assert "CASCADE_RANKER_PORT is 'many'" in result.output


def test_down_without_a_run_is_no_error(run):
    result = run("down")
    assert (result.exit_code, result.output.strip()) == (0, "Cascade does not run.")


def test_recommend_shows_the_list(run, gateway):
    result = run("recommend", "u[1]", "--device", "mobile", "--at", "2026-01-12T08:30", "--k", 2)
    assert result.exit_code == 0, result.output
    assert gateway.asked == {
        "user_id": "u[1]",
        "k": 2,
        "device_type": "mobile",
        "timestamp": 1_768_206_600,
        "diversity": False,
        "temperature": 1.0,
        "seed": None,
    }
    for text in ("u[1]", "Red [shoe]", "[bold]1", "19.99", "12.3%", "–", "Answered without: ranker", "v7", "total 1.2"):
        assert text in result.output


def test_recommend_with_diversity_and_as_json(run, gateway):
    result = run("recommend", "u", "--diversity", "--temperature", 0.5, "--seed", 3, "--json")
    assert json.loads(result.output) == ANSWER
    assert (gateway.asked["diversity"], gateway.asked["temperature"], gateway.asked["seed"]) == (True, 0.5, 3)
    assert gateway.asked["timestamp"] is None


def test_recommend_tells_a_problem(run, gateway):
    gateway.answer = (
        422,
        {
            "title": "Invalid request",
            "detail": "1 field(s) at fault.",
            "errors": [{"field": "k", "message": "too big"}],
        },
    )
    result = run("recommend", "u")
    assert result.exit_code == 1
    assert "answered 422: 1 field(s) at fault. k: too big" in result.output


@pytest.mark.parametrize("text", ["<html>", "[]", '{"status": 500}', '"text"'])
def test_an_answer_that_is_no_problem_is_shown_as_it_is(text):
    assert problem_sentence(text) == text


@pytest.mark.parametrize("text", ["2026-01-12T08:30", "2026-01-12T08:30Z", "2026-01-12 09:30+01:00"])
def test_times_are_utc_unless_they_say_otherwise(text):
    assert utc_seconds(text) == 1_768_206_600


def test_an_evaluation_is_shown_by_slice():
    rows = (
        EvaluationRow("two-tower", "all", 1200, {"recall@10": 0.25, "ndcg@10": 0.125}),
        EvaluationRow("popularity", "all", 1200, {"recall@10": 0.2}),
        EvaluationRow("two-tower", "cold users", 1200, {"recall@10": 0.1}),
    )
    console = Console(file=io.StringIO(), width=100)
    console.print(table_of(EvaluationReport(rows, {})))
    output = console.file.getvalue()
    for text in ("all (1,200)", "cold users (1,200)", "two-tower", "0.250", "0.125", "popularity", "0.200", "@100"):
        assert text in output


def test_a_report_is_written_whole_or_not_at_all(tmp_path):
    write_report({"a": 1}, tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    with pytest.raises(CommandError, match="cannot be written"):
        write_report({}, tmp_path / "report.json" / "below-a-file.json")
