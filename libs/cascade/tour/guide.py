"""How the tour speaks: chapters, what to look at, the same by hand, and a pause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from cascade.api.gateway import RecommendedItem

_SHOWN = 10


class Guide:
    """Prints to one console, and waits where somebody reads along.

    pauses: whether to wait for Enter; yes: the answer to all questions, asked of nobody
    """

    def __init__(self, console: Console, *, pauses: bool, yes: bool) -> None:
        self._to, self._pauses, self._yes = console, pauses, yes

    def chapter(self, title: str, says: str) -> None:
        """Begin a chapter."""
        self._to.print()
        self._to.print(Rule(Text(title, "bold"), align="left"))
        self._to.print(says, markup=False, highlight=False)

    def say(self, sentence: str) -> None:
        """Something that has just happened."""
        self._to.print(sentence, markup=False, highlight=False)

    def look(self, sentence: str) -> None:
        """What to look at."""
        self._to.print(Text.assemble(("Look at: ", "bold green"), sentence))

    def by_hand(self, *commands: str) -> None:
        """How to do the same without the tour. Not wrapped: commands are there to be copied."""
        self._to.print(Text("By hand:", "bold cyan"))
        for command in commands:
            self._to.print(f"  {command}", markup=False, highlight=False, soft_wrap=True)

    def table(self, table: Table) -> None:
        """Print a table."""
        self._to.print(table)

    @contextmanager
    def waiting(self, sentence: str) -> Iterator[None]:
        """While something takes its time."""
        with self._to.status(Text(sentence)):
            yield

    def pause(self) -> None:
        """Wait until the reader goes on."""
        if self._pauses:
            self._to.input(Text("Enter goes on; Ctrl-C ends the tour. ", "dim"))

    def agrees(self, question: str) -> bool:
        """A question. Where nobody is asked and nothing was agreed to beforehand: no."""
        if self._yes or not self._pauses:
            self.say(f"{question} {'Yes (--yes).' if self._yes else 'No: nobody is asked (--yes agrees).'}")
            return self._yes
        return self._to.input(Text(f"{question} [y/N] ")).strip().lower() in ("y", "yes")


def new_table(title: str, *columns: str) -> Table:
    """A table as all of the tour are."""
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def add_row(table: Table, *cells: str, style: str = "") -> None:
    """A row of plain text: brackets in a title are no markup."""
    table.add_row(*(Text(cell) for cell in cells), style=style)


def side_by_side(left: tuple[str, Sequence[RecommendedItem]], right: tuple[str, Sequence[RecommendedItem]]) -> Table:
    """Two lists, rank by rank; what stands in one of them alone is marked."""
    (left_name, left_items), (right_name, right_items) = left, right
    ids = [{item.item_id for item in items[:_SHOWN]} for items in (left_items, right_items)]
    table = new_table(f"{len(ids[0] & ids[1])} of {_SHOWN} items stand in both lists", "#", left_name, right_name)
    for rank in range(max(len(items[:_SHOWN]) for items in (left_items, right_items))):
        cells = [
            _cell(items[rank], alone=items[rank].item_id not in other) if rank < len(items) else Text()
            for items, other in ((left_items, ids[1]), (right_items, ids[0]))
        ]
        table.add_row(str(rank + 1), *cells)
    return table


def _cell(item: RecommendedItem, *, alone: bool) -> Text:
    score = "" if item.score is None else f" {item.score:.1%}"
    mark = ("• ", "yellow") if alone else "  "
    return Text.assemble(mark, item.title or item.item_id, (f"  {item.category_l1}{score}", "dim"))
