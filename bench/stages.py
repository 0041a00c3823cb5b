"""What one request makes a service compute, stage by stage, on one thread; the plain way beside the fast one.

The weights and items are random: neither changes what a stage costs. Every call has another request, its ids as new
strings, as they come out of a parsed body.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, cast

import numpy as np

from bench import costs, synthetic
from bench.figures import Target
from bench.report import Report
from bench.timing import each_of, fresh_texts, gemm_peak, one_thread, side_by_side
from cascade.features.item_table import UNKNOWN
from cascade.models.dlrm_scorer import PackedScorer, packed_bytes
from cascade.models.matches import EventHistories
from cascade.serving.metrics import ServiceMetrics
from cascade.serving.reload import BundleHolder, Loaded
from cascade.store.artifacts import RankerArtifacts
from services.ranker import engine, rerank
from services.ranker.histories import histories_of, recent_of
from services.retrieval import engine as retrieval_engine

SEED = 7
BATCHES = (1, 4, 16)
SIZES = (2_465, 100_000, 1_000_000)
"""items: the Retail Demo Store's catalog, and two to see what memory costs"""


class _Held(BundleHolder[RankerArtifacts]):
    """A holder of a bundle that is there already."""

    def __init__(self, bundle: RankerArtifacts) -> None:
        self._loaded = Loaded("bench", "stable", bundle)


def run(report: Report) -> None:
    """Measure, with the smallest catalog first."""
    repeats, calls = (3, 100) if report.quick else (7, 300)
    with one_thread():
        peak = gemm_peak(repeats)
        report.figure("gemm_peak", peak, "GFLOP/s", note="1,024³ float32, NumPy's BLAS, one thread")
        report.say(
            "One thread throughout. A figure is the median of its repeats, each the median of "
            f"{calls} calls; variants take turns of ten calls, so caches are as a busy service "
            "finds them. Weights and items are random."
        )
        content = synthetic.shop(SIZES[0], SEED)
        ranker = synthetic.ranker(content, SEED, device="cpu")
        _transforms(report, content, repeats, calls)
        _dlrm(report, content, ranker, float(np.median(peak)), repeats, calls)
        _query_tower(report, content, repeats, calls)
        _engines(report, content, ranker, repeats, calls)
        _rerank(report, repeats, calls)
        rows = []
        for size in SIZES:
            if size > SIZES[0]:
                content = synthetic.shop(size, SEED)
                ranker = synthetic.ranker(content, SEED, device="cpu")
            rows.append(_items(report, content, ranker, repeats, calls))
        report.say(
            "## Items of a request by the catalog's size",
            "Positions of 300 ids, and gathering. Packed is what the fast ranker gathers, 1,620 bytes an item; plain "
            "is what the network takes, 532 bytes and two embedding rows. In a small catalog all of it lies in the "
            "caches; in a large one every id costs misses in the map from ids to positions (its index, its entry, the "
            "text to compare) and every item misses in the table, which the memory's bandwidth bounds.",
        )
        report.table(
            ["items", "positions ms", "packed gather ms", "plain gather ms", "ranker, 300 candidates, ms", "packed MB"],
            rows,
        )
        _missed(report)


def _transforms(report: Report, content: synthetic.Shop, repeats: int, calls: int) -> None:
    requests = synthetic.rank_requests(content, 64, SEED)

    def encode(batch: list[Any]) -> None:
        users = [request.user for request in batch]
        content.user.encode(
            [user.user_id for user in users],
            [user.age for user in users],
            [user.gender for user in users],
            [user.top_category for user in users],
        )
        content.context.encode(
            [request.context.device_type for request in batch], [request.context.timestamp for request in batch]
        )

    for size in BATCHES:
        found = side_by_side({"encode": encode}, each_of(_batches(requests, size)), repeats=repeats, calls=calls)
        report.figure(f"transforms.user_and_context.b{size}", found["encode"], "ms")

    def whole(batch: list[Any]) -> None:
        encode(batch)
        content.items.positions(batch[0].item_ids)

    found = side_by_side({"whole": whole}, each_of(_batches(requests, 1)), repeats=repeats, calls=calls)
    report.figure(
        "transforms.whole",
        found["whole"],
        "ms",
        at_most=0.5,
        note="user, item and context of one request, 300 candidates; items are encoded with the bundle",
    )


def _dlrm(
    report: Report, content: synthetic.Shop, ranker: RankerArtifacts, peak: float, repeats: int, calls: int
) -> None:
    config, count = ranker.dlrm.config, synthetic.CANDIDATES
    plain = replace(ranker, precompute_bytes=0)
    assert isinstance(ranker.scorer, PackedScorer)
    requests = _encoded(content, ranker, synthetic.rank_requests(content, 64, SEED))
    for request in requests[:4]:  # the fast one is held to the plain one here too
        np.testing.assert_allclose(ranker.scorer.score(*request)[0], plain.scorer.score(*request)[0], atol=1e-5)
    flops = count * costs.packed_row_flops(config) + costs.packed_request_flops(config)
    plain_flops = count * costs.dlrm_row_flops(config)
    floor_ms, plain_floor_ms = flops / peak / 1e6, plain_flops / peak / 1e6
    square = np.random.default_rng(SEED).standard_normal((512, 512), np.float32)
    rows = []
    for size in BATCHES:
        batches = [_joined(requests[start : start + size]) for start in range(0, 64, size)]
        found = side_by_side(
            {
                "plain": lambda batch: plain.scorer.score(*batch),
                "packed": lambda batch: ranker.scorer.score(*batch),
                "peak": lambda _: square @ square,
            },
            each_of(batches),
            repeats=repeats,
            calls=max(calls // size, 20),
        )
        each = {name: [ms / size for ms in found[name]] for name in ("plain", "packed")}
        ratios = [slow / fast for slow, fast in zip(found["plain"], found["packed"], strict=True)]
        report.figure(
            f"dlrm.b{size}",
            each["packed"],
            "ms",
            at_most=0.6,
            note=f"a request of {count} candidates in a batch of {size}, gathering included",
        )
        report.figure(f"dlrm.b{size}.plain", each["plain"], "ms", note="`Dlrm.predict` over gathered features")
        report.figure(f"dlrm.b{size}.plain_over_fast", ratios, "×")
        # against the speed of a large product at the same moments, whatever else the machine did
        over = [
            fast * (2 * 512**3 / square_ms) / flops
            for fast, square_ms in zip(each["packed"], found["peak"], strict=True)
        ]
        report.figure(
            f"dlrm.b{size}.over_floor", over, "×", at_most=2, note="its own FLOPs at the peak of the same moments"
        )
        rows.append(
            [size, *(f"{np.median(each[name]):.3f}" for name in ("plain", "packed")), f"{np.median(ratios):.1f}×",
             f"{np.median(over):.2f}×", f"{np.median(each['packed']) / plain_floor_ms:.2f}×"]
        )  # fmt: skip
    paused = side_by_side(
        {"plain": lambda batch: plain.scorer.score(*batch), "packed": lambda batch: ranker.scorer.score(*batch)},
        each_of(requests),
        repeats=repeats,
        calls=max(calls // 4, 20),
        pause_s=0.002,
    )
    report.figure(
        "dlrm.b1.after_pause", paused["packed"], "ms", note="each call after 2 ms asleep, as a service at low load"
    )
    report.figure("dlrm.b1.after_pause.plain", paused["plain"], "ms")
    report.say(
        "## Ranker",
        f"{count} candidates of one request are {plain_flops / 1e6:.1f} MFLOP in the network as it is written, "
        f"{plain_floor_ms:.3f} ms at this machine's peak, and {flops / 1e6:.1f} MFLOP, {floor_ms:.3f} ms, with the "
        "items' and the request's own parts computed once (`bench/costs.py`). The target of twice the floor is held to "
        "the smaller of the two.",
    )
    report.table(
        [
            "batch",
            "plain ms a request",
            "fast ms a request",
            "plain : fast",
            "fast : its floor",
            "fast : plain's floor",
        ],
        rows,
    )
    _profile(report, ranker.scorer, requests, repeats, calls)


def _profile(report: Report, packed: PackedScorer, requests: list[tuple[Any, ...]], repeats: int, calls: int) -> None:
    """Where the fast ranker's time goes: its parts alone, on arrays of their sizes."""
    split, count = packed.split, synthetic.CANDIDATES
    rng = np.random.default_rng(SEED)
    over = split.widths.over, split.top_dense.shape[1]
    shapes = {
        "bottom network": [
            (count, *matrix.shape) for matrix in (split.bottom_item, *(w for w, _ in split.bottom_rest))
        ],
        "request·item": [(count * split.widths.item, split.widths.dim, split.widths.request)],
        "top network": [(count, *over), *((count, *weight.shape) for weight, _ in split.top_rest)],
    }

    def product(rows: int, inner: int, columns: int) -> Callable[[], object]:
        left = rng.standard_normal((rows, inner), np.float32)
        right = rng.standard_normal((inner, columns), np.float32)
        out = np.empty((rows, columns), np.float32)
        return lambda: np.matmul(left, right, out=out)

    parts: dict[str, Callable[[Any], object]] = {
        "whole": lambda one: packed.score(*one),
        "request's part, and calling (a request of one item)": lambda one: packed.score(
            *one[:4], [one[4][0][:1]], one[5]
        ),
        "gathering": lambda one: packed.gather(one[4][0]),
    }
    for name, sizes in shapes.items():
        products = [product(*size) for size in sizes]
        parts[f"products: {name}"] = lambda _, products=products: [one() for one in products]
    vectors = rng.standard_normal((count, split.widths.item, split.widths.dim), np.float32)
    dense = rng.standard_normal((count, split.widths.dim), np.float32)
    parts["dense·item"] = lambda _: np.matvec(vectors, dense)
    found = {
        name: float(np.median(values))
        for name, values in side_by_side(parts, each_of(requests), repeats=repeats, calls=calls).items()
    }
    whole = found.pop("whole")
    found["the rest: ReLUs, biases, copies, sigmoid"] = max(whole - sum(found.values()), 0.0)
    report.say("Where the time of one request goes, each part timed alone:")
    report.table(["part", "ms", "share"], [[name, f"{ms:.3f}", f"{ms / whole:.0%}"] for name, ms in found.items()])


def _missed(report: Report) -> None:
    """What a reader must know of targets that are not met."""
    missed = [one for one in report.figures if one.target is not None and not one.target.met_by(one.value)]
    if not missed:
        report.say("Every target of this page is met.")
        return
    report.say("## Missed")
    for figure in missed:
        report.say(
            f"`{figure.name}` is {figure.value:.3g} {figure.unit} where the target is {figure.target}: "
            f"{figure.value / (cast(Target, figure.target).at_most or 1):.2f} times it."
        )
    report.say(
        "The ranker: the table above says where its time goes. What is not large products is passes over arrays "
        "between them; one fused kernel would close most of that, and needs a compiler where the service runs. "
        "Items: an id costs its hash (0.05 µs) and its look-up, and a row its 1,620 bytes from memory; in a large "
        "catalog both are waits for memory. Closing it takes smaller rows (codes for small tables: half the bytes) "
        "and positions in place of ids between services."
    )


def _query_tower(report: Report, content: synthetic.Shop, repeats: int, calls: int) -> None:
    bundle = synthetic.retrieval(content, SEED)
    users = synthetic.rank_requests(content, 64, SEED)
    rows = []
    for size in BATCHES:
        batches = []
        for batch in _batches(users, size):
            encoded = _encode_users(content, batch)
            batches.append((encoded.categorical, encoded.continuous))
        found = side_by_side(
            {
                "plain": lambda batch: bundle.query_tower.predict(*batch),
                "fast": lambda batch: bundle.encoder.predict(*batch),
            },
            each_of(batches),
            repeats=repeats,
            calls=calls,
        )
        ratios = [slow / fast for slow, fast in zip(found["plain"], found["fast"], strict=True)]
        report.figure(f"query_tower.b{size}", found["fast"], "ms", note=f"a batch of {size} users")
        report.figure(f"query_tower.b{size}.plain", found["plain"], "ms", note="the tower in eager torch")
        report.figure(f"query_tower.b{size}.plain_over_fast", ratios, "×")
        rows.append(
            [size, *(f"{np.median(found[name]):.4f}" for name in ("plain", "fast")), f"{np.median(ratios):.1f}×"]
        )
    report.say("## Query tower", "One user is a few kFLOP: what is measured is calling, not computing.")
    report.table(["batch", "torch ms", "NumPy ms", "ratio"], rows)


def _engines(report: Report, content: synthetic.Shop, ranker: RankerArtifacts, repeats: int, calls: int) -> None:
    requests = synthetic.rank_requests(content, 64, SEED)
    metrics = ServiceMetrics("bench")
    fast = engine.RankerEngine(_Held(ranker), metrics)
    plain = engine.RankerEngine(_Held(replace(ranker, precompute_bytes=0)), metrics)
    bundle = synthetic.retrieval(content, SEED)
    asked = [_Retrieve(request.user, request.context, synthetic.CANDIDATES) for request in requests]
    rows = []
    for size in BATCHES:
        found = side_by_side(
            {"fast": fast.rank, "plain": plain.rank},
            each_of(_batches(requests, size)),
            repeats=repeats,
            calls=max(calls // size, 20),
        )
        each = {name: [ms / size for ms in values] for name, values in found.items()}
        report.figure(f"ranker_engine.b{size}", each["fast"], "ms", note="a request: transforms to the ten best ids")
        report.figure(f"ranker_engine.b{size}.plain", each["plain"], "ms", note="with `Dlrm.predict`")
        searched = side_by_side(
            {"search": lambda batch: retrieval_engine.search(bundle, batch)},
            each_of(_batches(asked, size)),
            repeats=repeats,
            calls=calls,
        )
        each["search"] = [ms / size for ms in searched["search"]]
        report.figure(
            f"retrieval_engine.b{size}",
            each["search"],
            "ms",
            note=f"a request: transform to 300 ids, flat index of {len(content.items):,}",
        )
        rows.append([size, *(f"{np.median(each[name]):.3f}" for name in ("fast", "plain", "search"))])
    report.say("## Engines", "All that a service computes for a request, without HTTP and queue; ms a request.")
    report.table(["batch", "ranker", "ranker, plain network", "retrieval"], rows)


def _rerank(report: Report, repeats: int, calls: int) -> None:
    rng = np.random.default_rng(SEED)
    for count, k in ((300, 10), (1_000, 100)):
        scores = [rng.random(count, np.float32) for _ in range(16)]
        drawn = rerank.sample(scores[0], k, 1.0, np.random.default_rng(0))
        found = side_by_side(
            {
                "top_k": lambda one, k=k: rerank.top_k(one, k),
                "sorted": lambda one, k=k: np.argsort(-one, kind="stable")[:k],
                "sample": lambda one, k=k: rerank.sample(one, k, 1.0, np.random.default_rng(0)),
                "propensities": lambda one, drawn=drawn: rerank.propensities(one, drawn, 1.0),
            },
            each_of(scores),
            repeats=repeats,
            calls=calls,
        )
        for name in ("top_k", "sample", "propensities"):
            report.figure(f"rerank.{name}.{count}.k{k}", found[name], "ms")
        report.figure(f"rerank.top_k.{count}.k{k}.plain", found["sorted"], "ms", note="a stable sort of all")


def _items(report: Report, content: synthetic.Shop, ranker: RankerArtifacts, repeats: int, calls: int) -> list[str]:
    """Figures of one catalog size, and its row of the table."""
    items, size = content.items, len(content.items)
    packed = cast(PackedScorer, ranker.scorer)
    requests = synthetic.rank_requests(content, 128, SEED)
    texts = [request.item_ids for request in requests]
    get, known = {item: at for at, item in enumerate(items.item_ids)}.get, [items.positions(ids) for ids in texts]

    def as_before(ids: list[str]) -> object:
        return np.fromiter([get(item, UNKNOWN) for item in dict.fromkeys(ids)], np.int32, count=len(ids))

    def whole(ids: list[str]) -> None:
        positions, _ = engine._known(ranker, ids)
        packed.gather(positions)

    found = side_by_side(
        {"positions": lambda ids: engine._known(ranker, ids), "before": as_before, "whole": whole},
        fresh_texts(texts),
        repeats=repeats,
        calls=calls,
    )
    report.figure(f"items.{size}.positions", found["positions"], "ms")
    report.figure(f"items.{size}.positions.plain", found["before"], "ms", note="repeats dropped first, then one by one")
    report.figure(
        f"items.{size}",
        found["whole"],
        "ms",
        at_most=0.05,
        note="item features of 300 candidates: ids to positions, each once, and one gather of all of an item",
    )
    gathers: dict[str, Callable[[Any], object]] = {
        "packed": packed.gather,
        "plain": lambda at: (items.categorical[at], items.continuous[at], items.image[at], items.text[at]),
        "ids": items.ids,
        "ids one by one": lambda at: [items.item_ids[position] for position in at.tolist()],
    }
    gathered = side_by_side(gathers, each_of(known), repeats=repeats, calls=calls)
    report.figure(f"items.{size}.gather", gathered["packed"], "ms", note="what the fast ranker takes: 1,620 bytes each")
    report.figure(f"items.{size}.gather.plain", gathered["plain"], "ms", note="what the network takes: 532 bytes each")
    report.figure(f"items.{size}.ids", gathered["ids"], "ms", note="300 positions back to ids")
    report.figure(f"items.{size}.ids.plain", gathered["ids one by one"], "ms")
    scored = side_by_side(
        {"packed": lambda batch: packed.score(*batch)},
        each_of(_encoded(content, ranker, requests)),
        repeats=repeats,
        calls=calls,
    )
    report.figure(f"items.{size}.dlrm", scored["packed"], "ms", note="300 candidates, positions known")
    memory = packed_bytes(ranker.dlrm.config, size) / 1e6
    report.figure(f"items.{size}.packed_memory", memory, "MB", note="precomputed items")
    return [
        f"{size:,}",
        f"{np.median(found['positions']):.3f}",
        f"{np.median(gathered['packed']):.3f}",
        f"{np.median(gathered['plain']):.3f}",
        f"{np.median(scored['packed']):.3f}",
        f"{memory:,.0f}",
    ]


class _Retrieve:
    """A request for candidates, by attribute."""

    def __init__(self, user: Any, context: Any, k: int) -> None:
        self.user, self.context, self.k = user, context, k


def _batches(values: list[Any], size: int) -> list[list[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _encode_users(content: synthetic.Shop, batch: list[Any]) -> Any:
    users = [request.user for request in batch]
    return content.user.encode(
        [user.user_id for user in users],
        [user.age for user in users],
        [user.gender for user in users],
        [user.top_category for user in users],
    )


def _encoded(content: synthetic.Shop, ranker: RankerArtifacts, requests: list[Any]) -> list[tuple[Any, ...]]:
    """What a scorer takes, a request each."""
    encoded = []
    for request in requests:
        user = _encode_users(content, [request])
        context = content.context.encode([request.context.device_type], [request.context.timestamp])
        positions = [content.items.positions(request.item_ids)]
        histories = histories_of(ranker, recent_of(ranker, [request.user], [request.context.timestamp]))
        encoded.append(
            (user.categorical, user.continuous, context.categorical, context.continuous, positions, histories)
        )
    return encoded


def _joined(requests: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Several requests as one batch."""
    *arrays, positions, histories = zip(*requests, strict=True)
    together = EventHistories(
        *(np.concatenate([getattr(one, field.name) for one in histories]) for field in fields(EventHistories))
    )
    return (*(np.concatenate(parts) for parts in arrays), [rows for one in positions for rows in one], together)
