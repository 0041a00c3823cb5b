from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import pytest

from cascade import tracing
from cascade.tracing import Attributes, Entered, Kind


@dataclass
class Noted:
    """A span that remembers."""

    name: str
    sampled: bool = True
    trace_id: str = "a" * 32
    kind: Kind = "server"
    attributes: dict[str, object] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    error: str | None = None
    began_ns: int | None = None
    ended_ns: int | None = None
    ends: int = 0
    children: list[Noted] = field(default_factory=list)

    def child(self, name: str, kind: Kind, attributes: Attributes | None, began_ns: int | None = None) -> Noted:
        self.children.append(Noted(name, kind=kind, attributes=dict(attributes or {}), began_ns=began_ns))
        return self.children[-1]

    def note(self, attributes: Attributes) -> None:
        self.attributes |= attributes

    def rename(self, name: str) -> None:
        self.name = name

    def event(self, name: str, attributes: Attributes | None = None) -> None:
        self.events.append(name)

    def failed(self, error_type: str) -> None:
        self.error = error_type

    def end(self, at_ns: int | None = None) -> None:
        self.ends += 1
        self.ended_ns = at_ns

    def headers(self) -> dict[str, str]:
        return {"traceparent": self.name}


def test_outside_of_a_span_there_is_nothing_to_do() -> None:
    with tracing.span("stage") as one:
        assert one is None
    tracing.past("queue", 0.0, 1.0)
    tracing.note("a", 1)
    tracing.event("b", {})
    assert (tracing.current(), tracing.headers(), tracing.trace_id(), tracing.exemplar()) == (None, {}, None, None)


def test_spans_stand_within_one_another_and_end_with_their_blocks() -> None:
    top = Noted("top")
    with Entered(top):
        with tracing.span("stage", "client", {"a": 1}) as stage, tracing.span("redis"):
            assert tracing.headers() == {"traceparent": "redis"}
        assert tracing.current() is top
        assert top.ends == 0
    assert tracing.current() is None
    assert stage is top.children[0]
    assert (top.children[0].kind, top.children[0].attributes) == ("client", {"a": 1})
    assert [one.name for one in top.children[0].children] == ["redis"]
    assert (top.ends, top.children[0].ends, top.children[0].children[0].ends) == (1, 1, 1)


def test_an_error_is_that_of_every_span_it_leaves() -> None:
    top = Noted("top")
    with Entered(top):
        with pytest.raises(ValueError, match="whose name"), tracing.span("stage"):
            raise ValueError("whose name is u-17")
        assert tracing.current() is top
    assert top.children[0].error == "ValueError"  # and not what it says
    assert top.error is None


def test_what_is_not_collected_is_told_on_and_makes_no_spans() -> None:
    top = Noted("top", sampled=False)
    with Entered(top):
        with tracing.span("stage") as one:
            assert one is None
            assert tracing.headers() == {"traceparent": "top"}
        tracing.past("queue", 0.0, 1.0)
        assert tracing.trace_id() == top.trace_id
        assert tracing.exemplar() is None
    assert top.children == []


def test_a_part_that_is_over_stands_where_it_was() -> None:
    top = Noted("top")
    now, now_ns = time.perf_counter(), time.time_ns()
    with Entered(top):
        tracing.past("queue", now - 2, now - 1.5)
    (queue,) = top.children
    assert queue.began_ns == pytest.approx(now_ns - 2e9, abs=0.1e9)
    assert queue.ended_ns is not None
    assert queue.began_ns is not None
    assert queue.ended_ns - queue.began_ns == pytest.approx(0.5e9, abs=1e3)
    assert queue.ends == 1


async def test_tasks_of_different_requests_keep_apart() -> None:
    tops = [Noted(f"top {number}") for number in range(2)]

    async def answer(top: Noted) -> None:
        with Entered(top):
            await asyncio.sleep(0)
            await asyncio.gather(*(ask(stage) for stage in ("filter", "ranker")))

    async def ask(stage: str) -> None:
        with tracing.span(stage):
            await asyncio.sleep(0)
            with tracing.span(f"call {stage}"):
                await asyncio.sleep(0)

    await asyncio.gather(*map(answer, tops))
    for top in tops:
        assert sorted(one.name for one in top.children) == ["filter", "ranker"]
        assert [[below.name for below in one.children] for one in top.children] == [
            [f"call {one.name}"] for one in top.children
        ]
