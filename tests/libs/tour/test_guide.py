"""How the tour speaks: titles stay text, commands can be copied, nobody is asked where nobody sits."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cascade.api.gateway import RecommendedItem
from cascade.tour.guide import Guide, add_row, new_table, side_by_side


def item(item_id: str, title: str = "", score: float | None = 0.125) -> RecommendedItem:
    return RecommendedItem(
        item_id=item_id, title=title, description="", category_l1="shoes", category_l2="", price=None, gender=None,
        image=None, score=score,
    )  # fmt: skip


def guide(**options: bool) -> tuple[Guide, io.StringIO]:
    told = io.StringIO()
    return Guide(Console(file=told, width=70), **{"pauses": False, "yes": False, **options}), told


def test_two_lists_stand_beside_each_other() -> None:
    to, told = guide()
    to.table(side_by_side(("before", [item("a", "[red]A"), item("b")]), ("after", [item("b"), item("c", score=None)])))
    text = told.getvalue()
    assert "1 of 10 items stand in both lists" in text
    assert "• [red]A" in text
    assert "shoes 12.5%" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "1 • [red]A shoes 12.5% b shoes 12.5%" in lines
    assert "2 b shoes 12.5% • c shoes" in lines


def test_titles_are_no_markup() -> None:
    to, told = guide()
    table = new_table("[bold]The shop", "item")
    add_row(table, "[link=x]Shoe[/link]")
    to.table(table)
    assert "[bold]The shop" in told.getvalue()
    assert "[link=x]Shoe[/link]" in told.getvalue()


def test_commands_are_not_wrapped() -> None:
    to, told = guide()
    command = "curl " + "x" * 200 + " [bold]"
    to.by_hand(command)
    assert command in told.getvalue()


@pytest.mark.parametrize(("yes", "answer"), [(True, True), (False, False)])
def test_without_a_reader_the_option_answers(yes: bool, answer: bool) -> None:
    to, told = guide(yes=yes)
    assert to.agrees("Learn a day?") is answer
    assert told.getvalue().startswith("Learn a day? ")
    to.pause()  # does not wait


@pytest.mark.parametrize(("typed", "answer"), [("y\n", True), ("YES\n", True), ("\n", False), ("no\n", False)])
def test_a_reader_is_asked(typed: str, answer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert guide(pauses=True)[0].agrees("Learn a day?") is answer
