"""A key is recognised as long as it is kept, and nothing kept of it is the key."""

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.access.api_keys import KeyFile, KeyRing, Scope, make_key
from cascade.access.errors import KeyFileUnreadable, UnknownKey


def test_the_file_holds_no_key_and_is_its_owners_alone(tmp_path):
    file = KeyFile(tmp_path / "below" / "keys.json")
    text, key = make_key("shop", [Scope.recommend, Scope.interact], rate=5, burst=7)
    file.add(key)
    secret = text.rpartition("_")[2]
    assert secret
    assert secret not in file.path.read_text()
    assert text not in file.path.read_text()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.read() == [key]
    assert KeyRing(file.read()).find(text.encode()) == key


def test_several_live_keys_and_one_revoked(tmp_path):
    file = KeyFile(tmp_path / "keys.json")
    (old, first), (new, second) = make_key("shop", [Scope.recommend]), make_key("shop", [Scope.recommend])
    file.add(first)
    file.add(second)
    ring = KeyRing(file.read())
    assert (ring.find(old.encode()), ring.find(new.encode())) == (first, second)
    assert file.revoke(first.id) == first
    ring = KeyRing(file.read())
    assert (ring.find(old.encode()), ring.find(new.encode())) == (None, second)
    with pytest.raises(UnknownKey, match=second.id):
        file.revoke(first.id)


def test_keys_made_at_once_are_all_kept(tmp_path):
    file = KeyFile(tmp_path / "keys.json")
    keys = [make_key(f"holder {i}", [Scope.interact])[1] for i in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(file.add, keys))
    assert {key.id for key in file.read()} == {key.id for key in keys}


def test_a_key_expires():
    now = datetime(2026, 1, 5, 12, tzinfo=UTC)
    text, key = make_key("guest", [Scope.recommend], expires=now)
    ring = KeyRing([key])
    assert ring.find(text.encode(), (now - timedelta(seconds=1)).timestamp()) == key
    assert ring.find(text.encode(), now.timestamp()) is None


KNOWN, KEPT = make_key("known", [Scope.admin])


@given(st.one_of(st.binary(max_size=300), st.integers(0, len(KNOWN) - 1)))
def test_nothing_but_the_key_is_the_key(offered):
    if isinstance(offered, int):  # the key with one character changed
        changed = "A" if KNOWN[offered] != "A" else "B"
        offered = (KNOWN[:offered] + changed + KNOWN[offered + 1 :]).encode()
    assert KeyRing([KEPT]).find(offered) is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no file of keys"),
        ("[]", "no file of keys"),
        ('{"keys": [{"id": "abc"}]}', "keys.0.id"),
        ('{"keys": [], "more": 1}', "more"),
    ],
)
def test_a_file_that_is_none_is_refused_without_its_content(tmp_path, content, told):
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(KeyFileUnreadable, match=told):
        KeyFile(tmp_path / "keys.json").read()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(KeyFileUnreadable, match=r"none\.json"):
        KeyFile(tmp_path / "none.json").read()
