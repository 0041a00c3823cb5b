from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.online import keys
from cascade.online.streams import Backlog, ConsumerGroup, Entry

STREAM = "stream"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def reader(client: redis.Redis, name: str, group: str = "g") -> ConsumerGroup:
    made = ConsumerGroup(client, STREAM, group, name)
    made.ensure()
    return made


def fill(client: redis.Redis, count: int) -> list[str]:
    return [client.xadd(STREAM, {"n": number}).decode() for number in range(count)]


def ids(entries: list[Entry]) -> list[str]:
    return [entry.id for entry in entries]


def test_readers_share_the_stream_from_its_beginning(client: redis.Redis) -> None:
    added = fill(client, 3)
    one, two = reader(client, "one"), reader(client, "two")
    assert ids(one.read(2, 0)) == added[:2]
    assert ids(two.read(9, 0)) == added[2:]
    assert one.read(9, 1) == []
    assert one.backlog() == Backlog(3, 3)


def test_a_stream_that_was_emptied_is_begun_again(client: redis.Redis) -> None:
    one = reader(client, "one")
    client.flushdb()
    [added] = fill(client, 1)
    assert ids(one.read(9, 0)) == [added]


def test_what_a_dead_reader_left_is_claimed_once(client: redis.Redis) -> None:
    added = fill(client, 3)
    reader(client, "dead").read(9, 0)
    one, two = reader(client, "one"), reader(client, "two")
    assert one.claim(60_000, 9) == []
    first = one.claim(0, 2)
    assert ids(first) == added[:2]
    assert [entry.fields[b"n"] for entry in first] == [b"0", b"1"]
    assert [entry.tries for entry in first] == [1, 1], "taking over is no try"
    assert ids(two.claim(60_000, 9)) == [], "claiming sets the time back"
    assert ids(two.claim(0, 9, held=added[:2])) == added[2:]


def test_claiming_walks_past_pages_of_held_entries(client: redis.Redis) -> None:
    added = fill(client, 2100)
    one = reader(client, "one")
    one.read(2100, 0)
    assert ids(one.claim(0, 9, held=added[:-1])) == added[-1:], "its own, whose answer was lost"


def test_a_reader_that_works_keeps_what_it_holds(client: redis.Redis) -> None:
    added = fill(client, 3)
    one, two = reader(client, "one"), reader(client, "two")
    one.read(9, 0)
    client.xclaim(STREAM, "g", "one", 0, added, idle=5000)
    one.renew(1000, held=added[:2])
    assert ids(two.claim(4000, 9)) == added[2:], "what it does not know of is not renewed"
    client.xclaim(STREAM, "g", "one", 0, added[:2], idle=5000)
    client.xclaim(STREAM, "g", "two", 0, added[:1], idle=5000)
    one.renew(1000, held=added)
    assert one.owned(added) == {added[1]}
    assert [row["time_since_delivered"] < 4000 for row in client.xpending_range(STREAM, "g", "-", "+", 2)] == [
        False,
        True,
    ]


def test_an_entry_deleted_while_pending_is_dropped(client: redis.Redis) -> None:
    added = fill(client, 2)
    reader(client, "dead").read(9, 0)
    client.xdel(STREAM, added[0])
    one = reader(client, "one")
    assert ids(one.claim(0, 9)) == added[1:]
    assert one.backlog().pending == 1


def test_a_file_takes_all_of_its_entries_or_none(client: redis.Redis) -> None:
    added = fill(client, 4)
    slow, other = reader(client, "slow"), reader(client, "other")
    slow.read(9, 0)
    client.xclaim(STREAM, "g", "other", 0, added[1:2])
    assert slow.take(added, "f") == {added[1]}
    assert not slow.is_committing("f")
    kept = [added[0], *added[2:]]
    assert slow.take(kept, "f") == set()
    assert slow.take(kept, "f") == set(), "asked again after an answer that was lost"
    assert slow.take(kept, "another") == set(kept)
    assert slow.is_committing("f")
    assert ids(other.claim(0, 9)) == [added[1]], "entries of a file are not claimed"
    assert other.unfinished(60_000) == {}
    assert other.unfinished(0) == {"f": kept}


def test_finishing_acknowledges_and_removes_the_name(client: redis.Redis) -> None:
    added = fill(client, 3)
    one = reader(client, "one")
    one.read(9, 0)
    one.take(added, "f")
    one.finish(added[:2], "f")
    assert one.unfinished(0) == {"f": added[2:]}
    for _ in range(2):
        one.finish(added, "f")
    assert not one.is_committing("f")
    assert [row["name"] for row in client.xinfo_consumers(STREAM, "g")] == [b"one"]
    assert one.backlog().pending == 0


def test_entries_of_a_lost_file_come_back(client: redis.Redis) -> None:
    added = fill(client, 2)
    one = reader(client, "one")
    one.read(9, 0)
    one.take(added, "f")
    assert ids(one.take_back(added, "f")) == added
    assert one.unfinished(0) == {}
    assert one.owned(added) == set(added)
    one.take(added, "f")
    one.finish(added, "f")
    assert one.take_back(added, "f") == [], "finished meanwhile"


def test_retries_are_counted_and_only_of_ones_own(client: redis.Redis) -> None:
    added = fill(client, 2)
    one = reader(client, "one")
    entries = one.read(9, 0)
    client.xclaim(STREAM, "g", "other", 0, added[:1])
    [again] = one.retry(entries)
    assert (again.id, again.tries) == (added[1], 2)
    [taken_over] = reader(client, "two").claim(0, 9, held=added[:1])
    assert taken_over.tries == 2, "the count outlives the reader"


def test_a_dead_letter_says_what_and_why(client: redis.Redis) -> None:
    fill(client, 1)
    one, two = reader(client, "one"), reader(client, "two")
    [entry] = one.read(9, 0)
    assert not two.bury(entry, "why", 10)
    assert one.bury(entry, "why", 10)
    assert not one.bury(entry, "why", 10)
    [(_, letter)] = client.xrange(keys.DEAD_LETTERS)
    assert letter == {
        b"stream": STREAM.encode(), b"id": entry.id.encode(), b"reason": b"why", b"tries": b"1", b"entry.n": b"0",
    }  # fmt: skip
    assert one.backlog().pending == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(read_by_a=st.integers(0, 12), acknowledged=st.sets(st.integers(0, 11)), read_by_b=st.integers(0, 12))
def test_trimming_keeps_what_any_group_still_needs(
    client: redis.Redis, read_by_a: int, acknowledged: set[int], read_by_b: int
) -> None:
    client.delete(STREAM)
    added = fill(client, 12)
    a, b = reader(client, "one", "a"), reader(client, "one", "b")
    for group, count in ((a, read_by_a), (b, read_by_b)):
        if count:
            group.read(count, 0)
    done = [added[number] for number in sorted(acknowledged) if number < read_by_a]
    if done:
        client.xack(STREAM, "a", *done)
    if read_by_b:
        client.xack(STREAM, "b", *added[:read_by_b])
    needed_by_a = [entry for entry in added if entry not in done]
    oldest = min(added.index(needed_by_a[0]) if needed_by_a else 12, read_by_b)
    a.trim()
    assert [entry.decode() for entry, _ in client.xrange(STREAM)] == added[oldest:]


def test_a_stream_without_readers_is_not_trimmed(client: redis.Redis) -> None:
    group = ConsumerGroup(client, STREAM, "g", "one")
    assert group.trim() == 0
    fill(client, 3)
    assert group.trim() == 0
    assert client.xlen(STREAM) == 3


def test_readers_that_hold_nothing_are_forgotten(client: redis.Redis) -> None:
    fill(client, 2)
    one, two, three = (reader(client, name) for name in ("one", "two", "three"))
    two.read(1, 0)
    three.read(1, 0)
    three.finish(ids(three.read(1, 0)), "nothing")
    client.xack(STREAM, "g", *[row["message_id"] for row in client.xpending_range(STREAM, "g", "-", "+", 9, "three")])
    one.read(1, 0)
    assert one.forget_idle(-1) == 1
    two.leave()
    one.leave()
    assert [row["name"] for row in client.xinfo_consumers(STREAM, "g")] == [b"two"], "something is pending under it"


def test_the_names_of_files_are_no_readers(client: redis.Redis) -> None:
    with pytest.raises(ValueError, match="reserved"):
        ConsumerGroup(client, STREAM, "g", "commit:mine")
