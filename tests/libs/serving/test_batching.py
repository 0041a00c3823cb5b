from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade import deadline
from cascade.deadline import DeadlineSpent
from cascade.serving.batching import Batched, MicroBatcher
from cascade.serving.errors import Closed, QueueFull
from cascade.serving.metrics import ServiceMetrics


class Doubler:
    """Doubles numbers, remembers its batches, and can be held before each."""

    def __init__(self, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.started = threading.Semaphore(0)
        self.gate = threading.Semaphore(0) if held else None

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        self.threads.add(threading.get_ident())
        self.started.release()
        if self.gate is not None:
            self.gate.acquire()
        if -1 in numbers:
            raise ValueError("the whole batch")
        return [KeyError("this one") if number == -2 else 2 * number for number in numbers]

    async def running(self) -> None:
        """Wait until a batch has begun."""
        await asyncio.to_thread(self.started.acquire)


def batcher(compute: Doubler, **bounds: float) -> MicroBatcher[int, int]:
    return MicroBatcher(
        compute,
        max_size=int(bounds.get("max_size", 4)),
        queue_bound=int(bounds.get("queue_bound", 100)),
        max_wait_s=bounds.get("max_wait_s", 0.0),
    )


async def test_a_lone_request_starts_at_once_whatever_the_wait() -> None:
    compute = Doubler()
    batching = batcher(compute, max_wait_s=3600)
    answer = await batching.submit(21)
    assert answer.value == 42
    assert answer.queue_ms >= 0
    assert answer.compute_ms >= 0
    await batching.aclose()


async def test_requests_gather_while_a_batch_runs(eventually: Any) -> None:
    compute = Doubler(held=True)
    batching = batcher(compute, max_size=3)
    first = asyncio.create_task(batching.submit(0))
    await compute.running()
    rest = [asyncio.create_task(batching.submit(number)) for number in range(1, 6)]
    await eventually(lambda: batching.waiting == 5)
    assert compute.gate is not None
    compute.gate.release(3)
    assert [answer.value for answer in await asyncio.gather(first, *rest)] == [0, 2, 4, 6, 8, 10]
    assert compute.batches == [[0], [1, 2, 3], [4, 5]]
    assert len(compute.threads) == 1
    assert threading.get_ident() not in compute.threads
    await batching.aclose()


async def test_requests_that_arrive_together_go_together() -> None:
    compute = Doubler()
    batching = batcher(compute)
    await asyncio.gather(*(batching.submit(number) for number in range(4)))
    assert compute.batches == [[0, 1, 2, 3]]
    await batching.aclose()


async def test_a_following_batch_may_wait_for_company_and_goes_when_full(eventually: Any) -> None:
    compute = Doubler(held=True)
    batching = batcher(compute, max_size=2, max_wait_s=3600)
    first = asyncio.create_task(batching.submit(0))
    await compute.running()
    second = asyncio.create_task(batching.submit(1))
    await eventually(lambda: batching.waiting == 1)
    assert compute.gate is not None
    compute.gate.release(2)
    await first
    assert not second.done()
    third = await batching.submit(2)  # fills the batch
    assert third.value == 4
    assert (await second).value == 2
    assert compute.batches == [[0], [1, 2]]
    await batching.aclose()


async def test_the_queue_is_bounded_and_recovers(eventually: Any) -> None:
    compute = Doubler(held=True)
    batching = batcher(compute, queue_bound=2)
    running = asyncio.create_task(batching.submit(0))
    await compute.running()
    queued = [asyncio.create_task(batching.submit(number)) for number in (1, 2)]
    await eventually(lambda: batching.waiting == 2)
    with pytest.raises(QueueFull, match="bound is 2"):
        await batching.submit(3)
    assert compute.gate is not None
    compute.gate.release(10)
    await asyncio.gather(running, *queued)
    assert (await batching.submit(3)).value == 6
    await batching.aclose()


async def test_errors_reach_their_own_requests_alone() -> None:
    compute = Doubler(held=True)
    batching = batcher(compute, max_size=2)
    assert compute.gate is not None
    compute.gate.release(10)
    answers = await asyncio.gather(*(batching.submit(number) for number in (-1, 1, -2, 2, 3)), return_exceptions=True)
    kinds = [type(answer).__name__ for answer in answers]
    assert kinds == ["ValueError", "ValueError", "KeyError", "Batched", "Batched"]
    assert (await batching.submit(4)).value == 8
    await batching.aclose()


async def in_the_loop(compute: Doubler, numbers: Sequence[int], max_size: int) -> list[Any]:
    batching: MicroBatcher[int, int] = MicroBatcher(compute, max_size=max_size, queue_bound=100, in_thread=False)
    answers = await asyncio.gather(*(batching.submit(number) for number in numbers), return_exceptions=True)
    assert (await batching.submit(5)).value == 10
    await batching.aclose()
    with pytest.raises(Closed):
        await batching.submit(6)
    return [answer.value if isinstance(answer, Batched) else answer for answer in answers]


async def test_computed_in_the_loop_the_batches_are_the_same() -> None:
    compute = Doubler()
    assert await in_the_loop(compute, range(6), max_size=4) == [0, 2, 4, 6, 8, 10]
    assert compute.batches == [[0, 1, 2, 3], [4, 5], [5]]
    assert compute.threads == {threading.get_ident()}


async def test_in_the_loop_too_errors_reach_their_own_requests_alone() -> None:
    answers = await in_the_loop(Doubler(), [-1, 1, -2, 2], max_size=2)
    assert [type(answer) for answer in answers] == [ValueError, ValueError, KeyError, int]


async def test_in_the_loop_others_are_served_between_two_batches() -> None:
    turns = []

    def compute(numbers: Sequence[int]) -> list[int | Exception]:
        turns.append("batch")
        return list(numbers)

    batching: MicroBatcher[int, int] = MicroBatcher(compute, max_size=1, queue_bound=100, in_thread=False)
    waiting = [asyncio.create_task(batching.submit(number)) for number in range(3)]
    while not all(task.done() for task in waiting):
        turns.append("other")
        await asyncio.sleep(0)
    assert turns.count("batch") == 3
    assert "batch,batch,batch" not in ",".join(turns)
    await batching.aclose()


async def test_a_wrong_number_of_results_is_an_error() -> None:
    batching: MicroBatcher[int, int] = MicroBatcher(lambda _: [], max_size=1, queue_bound=1)
    with pytest.raises(RuntimeError, match="0 results for a batch of 1"):
        await batching.submit(1)
    await batching.aclose()


async def test_requests_given_up_are_not_computed_and_free_their_place(eventually: Any) -> None:
    compute = Doubler(held=True)
    batching = batcher(compute, queue_bound=1)
    running = asyncio.create_task(batching.submit(0))
    await compute.running()
    given_up = asyncio.create_task(batching.submit(1))
    await eventually(lambda: batching.waiting == 1)
    given_up.cancel()
    await eventually(lambda: batching.waiting == 0)
    instead = asyncio.create_task(batching.submit(2))
    await eventually(lambda: batching.waiting == 1)
    running.cancel()  # while it computes: its result goes nowhere, the others go on
    assert compute.gate is not None
    compute.gate.release(2)
    assert (await instead).value == 4
    assert compute.batches == [[0], [2]]
    await batching.aclose()


async def test_closing_finishes_what_waits_and_takes_no_more() -> None:
    compute = Doubler(held=True)
    batching = batcher(compute, max_size=1)
    tasks = [asyncio.create_task(batching.submit(number)) for number in range(3)]
    await compute.running()
    closing = asyncio.create_task(batching.aclose())
    await asyncio.sleep(0)
    with pytest.raises(Closed):
        await batching.submit(9)
    assert compute.gate is not None
    compute.gate.release(3)
    await closing
    assert [task.result().value for task in tasks] == [0, 2, 4]
    await batching.aclose()


async def test_closing_without_any_request_is_harmless() -> None:
    await batcher(Doubler()).aclose()


async def test_metrics_tell_waits_sizes_and_depth() -> None:
    metrics = ServiceMetrics("test")
    compute = Doubler()
    batching: MicroBatcher[int, int] = MicroBatcher(compute, max_size=4, queue_bound=9, metrics=metrics)
    await asyncio.gather(*(batching.submit(number) for number in range(6)))
    await batching.aclose()

    def sample(name: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"service": "test"})

    assert sample("cascade_queue_wait_seconds_count") == 6
    assert sample("cascade_compute_seconds_count") == 6
    assert sample("cascade_batch_size_count") == 2
    assert sample("cascade_batch_size_sum") == 6
    assert sample("cascade_queue_depth") == 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-2, 50), st.booleans(), st.integers(0, 2)), max_size=40),
    st.integers(1, 6),
    st.integers(1, 30),
    st.sampled_from([0.0, 0.001]),
)
async def test_every_request_gets_its_own_answer_or_a_reason(
    plan: list[tuple[int, bool, int]], max_size: int, queue_bound: int, max_wait_s: float
) -> None:
    compute = Doubler()
    batching: MicroBatcher[int, int] = MicroBatcher(
        compute, max_size=max_size, queue_bound=queue_bound, max_wait_s=max_wait_s
    )
    tasks = []
    for number, give_up, pause in plan:
        task = asyncio.create_task(batching.submit(number))
        tasks.append((number, give_up, task))
        for _ in range(pause):
            await asyncio.sleep(0)
        if give_up:
            task.cancel()
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*(task for _, _, task in tasks), return_exceptions=True)
        await batching.aclose()
    for (number, give_up, _), answer in zip(tasks, answers, strict=True):
        if isinstance(answer, BaseException):
            allowed: tuple[type[BaseException], ...] = (QueueFull, ValueError)  # any batch may hold a −1
            allowed += (asyncio.CancelledError,) if give_up else ()
            allowed += (KeyError,) if number == -2 else ()
            assert isinstance(answer, allowed)
        else:
            assert answer.value == 2 * number
    assert all(1 <= len(batch) <= max_size for batch in compute.batches)
    assert batching.waiting == 0


async def test_batches_may_move_to_a_thread_and_back_between_two_of_them() -> None:
    compute = Doubler()
    batching = MicroBatcher(compute, max_size=4, queue_bound=100, in_thread=False)
    for number in range(6):
        batching.compute_in_thread(number % 2 == 1)
        answers = await asyncio.gather(*(batching.submit(10 * number + more) for more in range(3)))
        assert [answer.value for answer in answers] == [20 * number, 20 * number + 2, 20 * number + 4]
        assert (threading.get_ident() in compute.threads) is (number % 2 == 0)
        compute.threads.clear()
    waiting = [asyncio.create_task(batching.submit(number)) for number in range(40)]
    for in_thread in [True, False] * 10:
        batching.compute_in_thread(in_thread)
        await asyncio.sleep(0)
    assert [answer.value for answer in await asyncio.gather(*waiting)] == [2 * number for number in range(40)]
    await batching.aclose()


async def test_what_waited_until_nobody_wants_it_is_not_computed(eventually: Any) -> None:
    compute = Doubler(held=True)
    batching = batcher(compute)
    first = asyncio.create_task(batching.submit(0))
    await compute.running()
    with deadline.within(0.01):
        late = asyncio.create_task(batching.submit(1))
    in_time = asyncio.create_task(batching.submit(2))
    await eventually(lambda: batching.waiting == 2)
    await asyncio.sleep(0.02)
    assert compute.gate is not None
    compute.gate.release(2)
    with pytest.raises(DeadlineSpent):
        await late
    assert [answer.value for answer in await asyncio.gather(first, in_time)] == [0, 4]
    assert compute.batches == [[0], [2]]
    await batching.aclose()
