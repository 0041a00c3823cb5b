"""What the chaos rows' results become: quantiles, the file, the table on its page."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.chaos.bad_input import read_report
from bench.chaos.catalog import NAMES
from bench.chaos.page import BEGIN, END, PAGE, table, written
from bench.chaos.proxy import HarmfulProxy
from bench.chaos.result import Grown, Result, in_words, quantile_ms

GROWN = Grown("features", mib=312.4, percent=0.25, mib_an_hour=4.68, files_before=31, files_after=31, files_most=40)


def result(**changes: object) -> Result:
    values = {"row": "kill-ranker", "title": "kill -9: ranker", "must": "0 failed", "answers": 6000, "accepted": 1200}
    return Result(**{**values, **changes})  # type: ignore[arg-type]


def test_quantiles_are_nearest_ranks_in_milliseconds() -> None:
    seconds = [number / 1000 for number in range(1, 101)]
    assert (quantile_ms(seconds, 0.5), quantile_ms(seconds, 0.99), quantile_ms(seconds, 1.0)) == (50.0, 99.0, 100.0)
    assert quantile_ms([], 0.99) == 0.0


def test_a_result_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    found = result(
        degraded={"ranker": 3}, whole_s=1.5, told=["started in 3 s"], faults=["late"], measured={"cores": "2"},
        grown=[GROWN],
    )  # fmt: skip
    assert Result.read(found.write(tmp_path)) == found
    assert not found.held


def test_the_table_tells_what_held_and_what_did_not() -> None:
    found = result(degraded={"ranker": 1234}, p50=7.4, p99=21.0, p99_during=33.0, rejected=2, whole_s=0.0)
    text = table([found, result(row="stop-ranker", faults=["p99 300 ms during the fault"])])
    cells = "yes | 6,000 | 0 | 1,234 ranker | 7 / 21 | 33 ms | 1,200 / 2 / 0 | 0.0 s | 0% |"
    assert f"| `kill-ranker` | kill -9: ranker | 0 failed | {cells}" in text
    assert "| **no** |" in text
    assert "- `stop-ranker`: p99 300 ms during the fault" in text


def test_the_table_tells_how_each_process_went_on() -> None:
    assert "| features | 312 MiB | +0.25 % | +4.7 MiB | 31 / 31 | 40 |" in table([result(row="soak", grown=[GROWN])])
    assert "How the processes" not in table([result()])


def test_the_page_has_a_place_for_the_table() -> None:
    page = PAGE.read_text()
    again = written(page, [result()])
    assert again.partition(BEGIN)[0] == page.partition(BEGIN)[0]
    assert again.rpartition(END)[2] == page.rpartition(END)[2]
    assert written(again, [result()]) == again
    with pytest.raises(ValueError, match="lines"):
        written("no marks", [])


def test_the_page_names_every_row() -> None:
    page = PAGE.read_text()
    assert [name for name in NAMES if f"`{name}`" not in page] == []


def test_counts_in_words() -> None:
    assert in_words({"ranker": 2000, "filter": 1}) == "1 filter, 2,000 ranker"
    assert in_words({}) == "–"


def test_schemathesis_own_errors_and_early_ends_are_failures() -> None:
    report = {
        "failures": [
            {"title": "Server error", "count": 2, "operations": ["POST /v1/rank"]},
            {
                "title": "Wrong response to undeclared method",
                "count": 1,
                "operations": ["GET /v1/users/{user_id}/history"],
            },
        ],
        "errors": [{"title": "Network Error", "count": 1}],
        "complete": False,
        "stop_reason": "interrupted",
        "test_cases": {"generated": 12},
    }
    found = read_report(report)
    assert found.cases == 12
    assert found.failures == (
        "Server error × 2: POST /v1/rank", "Network Error × 1", "it stopped early: interrupted",
    )  # fmt: skip


async def test_the_proxy_delays_and_breaks() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = HarmfulProxy(server.sockets[0].getsockname()[1])
    await proxy.start()
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"one")
    assert await reader.read(100) == b"one"
    proxy.delay_s, began = 0.05, loop.time()
    writer.write(b"two")
    assert await reader.read(100) == b"two"
    assert loop.time() - began >= 0.045
    proxy.resets = True
    writer.write(b"three")
    with pytest.raises(ConnectionResetError):
        await reader.read(100)
    writer.close()
    await proxy.aclose()
    server.close()
