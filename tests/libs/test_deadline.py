"""One deadline a request: told on, never lengthened, and noticed where it is spent."""

from __future__ import annotations

import asyncio

import pytest

from cascade import deadline
from cascade.deadline import DeadlineSpent


def test_without_one_there_is_all_the_time_asked_for() -> None:
    assert deadline.left_s() is None
    assert deadline.at_most(3.0) == 3.0
    deadline.require()


@pytest.mark.parametrize(
    ("offered", "least", "most"),
    [(b"250", 0.2, 0.25), (b"0", -0.05, 0.0), (b"-5", None, None), (b"1e3", None, None), (b"9" * 30, None, None)],
)
def test_a_caller_tells_what_it_has_left(offered: bytes, least: float | None, most: float | None) -> None:
    token = deadline.begin([(b"host", b"x"), (b"x-deadline-ms", offered)])
    left = deadline.left_s()
    deadline.end(token)
    if least is None or most is None:
        assert left is None, "what is no number of milliseconds is no deadline"
    else:
        assert left is not None
        assert least <= left <= most
    assert deadline.left_s() is None


def test_within_shortens_and_never_lengthens() -> None:
    with deadline.within(1.0):
        with deadline.within(60.0):
            left = deadline.left_s()
            assert left is not None
            assert left <= 1.0
        with deadline.within(0.0):
            assert deadline.at_most(5.0) == 0.0
            with pytest.raises(DeadlineSpent):
                deadline.require()
        assert deadline.at_most(5.0) > 0.5


async def test_a_block_ends_with_the_deadline() -> None:
    with deadline.within(0.01):
        with pytest.raises(DeadlineSpent):
            async with deadline.kept():
                await asyncio.sleep(60)
        with pytest.raises(DeadlineSpent):
            async with deadline.kept():
                raise AssertionError("it is spent already")


async def test_a_timeout_of_the_block_itself_is_not_the_deadline() -> None:
    with deadline.within(60), pytest.raises(TimeoutError):
        async with deadline.kept():
            raise TimeoutError("the block's own")


async def test_tasks_of_a_request_share_its_deadline_and_others_have_none() -> None:
    async def left() -> float | None:
        return deadline.left_s()

    with deadline.within(5):
        inside = await asyncio.gather(left(), left())
    assert all(one is not None and 0 < one <= 5 for one in inside)
    assert await asyncio.create_task(left()) is None
    assert deadline.moment() is None
