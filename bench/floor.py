"""What this machine can do at all, and how far each stage of a request is from it.

The floor of a stage is the time of what it cannot do without, at the machine's measured peak: its FLOPs at the speed of
a large matrix product, its bytes at the speed of a copy, or its round trips. Formulas: `bench/costs.py`.
"""

from __future__ import annotations

import http.client
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import redis

from bench import costs, synthetic
from bench.peers import ANSWER, peer
from bench.report import Report
from bench.timing import each_of, fresh_texts, gemm_peak, one_thread, side_by_side
from cascade.features.spec import HISTORY_LENGTH
from cascade.models.dlrm_scorer import PackedScorer
from cascade.models.layers import embedding_dim
from cascade.online.server import RedisServer, free_port
from services.ranker import engine, rerank
from services.ranker.histories import histories_of, recent_of

SEED = 7
ITEMS = 2_465
COPY_BYTES = 256 * 2**20
"""far beyond every cache"""


def run(report: Report) -> None:
    """Peaks first, then each stage beside its floor."""
    repeats, calls = (3, 200) if report.quick else (7, 1_000)
    with one_thread():
        # The best of the repeats: a floor taken while something else ran would flatter what stands on it.
        gemm = max(report.figure("gemm", gemm_peak(repeats), "GFLOP/s", note="1,024³ float32, one thread").samples)
        copy = max(
            report.figure(
                "memory_copy", _copy_speed(repeats), "GB/s", note="256 MiB, bytes read and written, one thread"
            ).samples
        )
        trips = _round_trips(report, repeats, calls)
        rows = _stages(report, gemm, copy, repeats, calls // 4)
    report.say(
        "## Stages of a request",
        f"One request, {synthetic.CANDIDATES} candidates, a catalog of {ITEMS:,} items, one thread. The floor of "
        "computing is the larger of its FLOPs at the matrix product's peak and its bytes at the copy's, the best of "
        "the repeats of each; a stage of a "
        "few kFLOP is all calling, and its ratio says how little there is to compute rather than how much to gain.",
    )
    report.table(["stage", "MFLOP", "kB moved", "floor ms", "measured ms", "measured : floor"], rows)
    hops = 4 * trips["http"] + 2 * trips["redis"]
    computed = sum(float(row[4]) for row in rows if row[4])
    report.say(
        "## Round trips",
        "A request crosses four hops (the client's, and three between gateway and services) and asks Redis twice (user "
        f"features, seen items). At the round trips above these are {hops:.2f} ms one after the other, and all the "
        f"computing above is {computed:.2f} ms: "
        + (
            "what is left to gain lies in fewer hops (one process) and in overlapping them."
            if hops > computed
            else "computing is the larger part."
        ),
    )


def _copy_speed(repeats: int) -> list[float]:
    source = np.ones(COPY_BYTES // 4, np.float32)
    target = np.empty_like(source)
    np.copyto(target, source)  # pages are there
    speeds = []
    for _ in range(repeats):
        started = time.perf_counter()
        np.copyto(target, source)
        speeds.append(2 * COPY_BYTES / (time.perf_counter() - started) / 1e9)
    return speeds


def _stages(report: Report, gemm: float, copy: float, repeats: int, calls: int) -> list[list[str]]:
    """Rows of the table: each stage measured, and its floor."""
    content = synthetic.shop(ITEMS, SEED)
    ranker = synthetic.ranker(content, SEED, device="cpu")
    retrieval = synthetic.retrieval(content, SEED)
    packed = ranker.scorer
    assert isinstance(packed, PackedScorer)
    requests = synthetic.rank_requests(content, 64, SEED)
    encoded = []
    for request in requests:
        user = _user(content, request)
        context = _context(content, request)
        positions = content.items.positions(request.item_ids)
        histories = histories_of(ranker, recent_of(ranker, [request.user], [request.context.timestamp]))
        encoded.append(
            (user.categorical, user.continuous, context.categorical, context.continuous, [positions], histories)
        )
    queries = [retrieval.encoder.predict(one[0], one[1]) for one in encoded]
    scores = [packed.score(*one)[0] for one in encoded]
    count, config, tower = synthetic.CANDIDATES, ranker.dlrm.config, retrieval.query_tower.config
    widths = [embedding_dim(rows, tower.embedding_cap) for rows in tower.user_cardinalities]

    def transforms(request: Any) -> None:
        _user(content, request)
        _context(content, request)
        histories_of(ranker, recent_of(ranker, [request.user], [request.context.timestamp]))

    def items(ids: list[str]) -> None:
        packed.gather(engine._known(ranker, ids)[0])

    # name: what to call, its inputs, FLOPs, bytes
    stages: dict[str, tuple[Callable[[Any], object], Callable[[], Iterator[Any]], float, float]] = {
        # five look-ups, and one for each event: a cache line each
        "transforms": (transforms, each_of(requests), 0, (5 + HISTORY_LENGTH) * 64),
        "query_tower": (
            lambda one: retrieval.encoder.predict(one[0], one[1]),
            each_of(encoded),
            costs.query_tower_flops(tower, widths),
            costs.query_tower_flops(tower, widths) / 2 * costs.FLOAT,  # each weight once
        ),
        "search_flat": (
            lambda query: retrieval.index.search(query, count),
            each_of(queries),
            costs.flat_search_flops(ITEMS, tower.dim),
            costs.flat_search_bytes(ITEMS, tower.dim),
        ),
        # an id's text, its entry in the map, then the row read and written
        "item_features": (
            items,
            fresh_texts([request.item_ids for request in requests]),
            0,
            count * (3 * 64 + costs.packed_row_bytes(config)),
        ),
        "dlrm": (
            lambda one: packed.score(*one),
            each_of(encoded),
            count * costs.packed_row_flops(config) + costs.packed_request_flops(config),
            count * costs.packed_row_bytes(config),
        ),
        "rerank_top_10": (lambda one: rerank.top_k(one, 10), each_of(scores), 0, count * costs.FLOAT),
        "ids": (content.items.ids, each_of([one[4][0][:10] for one in encoded]), 0, 10 * 64),
    }
    rows = []
    for name, (call, inputs, flops, moved) in stages.items():
        samples = side_by_side({name: call}, inputs, repeats=repeats, calls=calls)[name]
        report.figure(f"stage.{name}", samples, "ms")
        floor_ms = max(flops / gemm / 1e6, moved / copy / 1e6)
        ratio = report.figure(
            f"stage.{name}.over_floor", [ms / floor_ms for ms in samples], "×", at_most=2 if name == "dlrm" else None
        )
        rows.append(
            [
                name,
                f"{flops / 1e6:.3f}",
                f"{moved / 1e3:.1f}",
                f"{floor_ms:.5f}",
                f"{statistics.median(samples):.4f}",
                f"{ratio.value:,.1f}×",
            ]
        )
    plain_ms = count * costs.dlrm_row_flops(config) / gemm / 1e6
    rows.append(
        ["dlrm, every sum done", f"{count * costs.dlrm_row_flops(config) / 1e6:.3f}", "", f"{plain_ms:.5f}", "", ""]
    )
    return rows


def _user(content: synthetic.Shop, request: Any) -> Any:
    user = request.user
    return content.user.encode([user.user_id], [user.age], [user.gender], [user.top_category])


def _context(content: synthetic.Shop, request: Any) -> Any:
    return content.context.encode([request.context.device_type], [request.context.timestamp])


def _round_trips(report: Report, repeats: int, calls: int) -> dict[str, float]:
    """Milliseconds of each kind, the other end being a process of its own."""
    medians: dict[str, float] = {}

    def take(name: str, note: str, trip: Callable[[], object]) -> None:
        for _ in range(20):
            trip()
        samples = []
        for _ in range(repeats):
            taken = []
            for _ in range(calls):
                started = time.perf_counter()
                trip()
                taken.append(time.perf_counter() - started)
            samples.append(1000 * statistics.median(taken))
        medians[name] = report.figure(f"round_trip.{name}", samples, "ms", note=note).value

    with peer("tcp") as port, closing(socket.create_connection(("127.0.0.1", port))) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def echo() -> None:
            line.sendall(b"x" * 100)
            _read(line, len(ANSWER))

        take("tcp", f"100 bytes there, {len(ANSWER):,} back, a bare socket at both ends", echo)
    with peer("http") as port, closing(http.client.HTTPConnection("127.0.0.1", port)) as client:
        client.connect()
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def get() -> None:
            client.request("GET", "/")
            client.getresponse().read()

        take("http", "uvicorn (uvloop, httptools) around an app of three lines; Python's http.client", get)
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder), free_port()) as server:
        store = redis.Redis(host="127.0.0.1", port=server.port)
        store.set("bits", b"\x5a" * 2_048)
        take("redis", "GET of a 2 KiB bitmap by redis-py", lambda: store.get("bits"))
        store.close()
    return medians


def _read(line: socket.socket, wanted: int) -> None:
    while wanted > 0:
        wanted -= len(line.recv(65_536))
