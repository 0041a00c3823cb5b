from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.embeddings.item_text import item_text


@pytest.mark.parametrize(
    ("title", "description", "expected"),
    [
        ("Red Coat", "Warm and long.", "Red Coat. Warm and long."),
        ("Why wait?", "Order now.", "Why wait? Order now."),
        ("  Red\n Coat ", None, "Red Coat"),
        (None, "Warm\tand long.", "Warm and long."),
        ("", "", ""),
        (None, None, ""),
    ],
)
def test_parts_are_joined_into_sentences(title: str | None, description: str | None, expected: str) -> None:
    assert item_text(title, description) == expected


@given(st.none() | st.text(), st.none() | st.text())
def test_the_result_is_one_line_that_starts_with_the_title(title: str | None, description: str | None) -> None:
    text = item_text(title, description)
    assert text == " ".join(text.split())
    assert text.startswith(" ".join((title or "").split()))
