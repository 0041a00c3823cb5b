"""`python -m bench.chaos.page`: the table of docs/reliability.md, from the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.chaos.catalog import NAMES
from bench.chaos.result import RESULTS, Result, in_words

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- chaos: begin, written by bench/chaos/page.py -->", "<!-- chaos: end -->"

_HEADERS = (
    "row", "fault", "must hold", "held", "lists", "failed", "degraded", "p50 / p99 ms", "p99 in the fault",
    "clicks kept / refused / lost", "whole after", "other load",
)  # fmt: skip


def table(results: Sequence[Result]) -> str:
    """Markdown: a line a row, what each told, and what it was measured on."""
    lines = ["| " + " | ".join(_HEADERS) + " |", "|" + " --- |" * len(_HEADERS)]
    lines += ["| " + " | ".join(_cells(one)) + " |" for one in results]
    lines += ["", "What the rows told besides:", ""]
    lines += [f"- `{one.row}` ({one.seconds:.0f} s): {'; '.join(one.told)}" for one in results if one.told]
    for one in results:
        lines += _growth(one)
    wrong = [one for one in results if not one.held]
    if wrong:
        lines += ["", "What did not hold:", ""]
        lines += [f"- `{one.row}`: {'; '.join(one.faults)}" for one in wrong]
    lines += ["", "Measured on:", ""]
    lines += [f"- {what}: {', '.join(f'`{name}`' for name in rows)}" for what, rows in _machines(results).items()]
    return "\n".join(lines)


def _growth(one: Result) -> list[str]:
    if not one.grown:
        return []
    lines = ["", f"How the processes went on in `{one.row}`, after its warm-up:", ""]
    lines += ["| process | memory | growth | an hour | open files, fewest before / after | most |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {of.name} | {of.mib:,.0f} MiB | {of.percent:+.2f} % | {of.mib_an_hour:+.1f} MiB | "
        f"{of.files_before} / {of.files_after} | {of.files_most} |"
        for of in one.grown
    ]
    return lines


def _cells(one: Result) -> tuple[str, ...]:
    under_load = one.answers > 0
    return (
        f"`{one.row}`",
        one.title,
        one.must,
        "yes" if one.held else "**no**",
        f"{one.answers:,}" if under_load else "–",
        (f"{one.failed}" + (f" ({one.elsewhere} at the other)" if one.elsewhere else "")) if under_load else "–",
        in_words(one.degraded) + (f"; {one.refused:,} refused" if one.refused else ""),
        f"{one.p50:.0f} / {one.p99:.0f}" if under_load else "–",
        f"{one.p99_during:.0f} ms" if one.p99_during else "–",
        f"{one.accepted:,} / {one.rejected:,} / {one.lost}" if one.accepted else "–",
        "–" if one.whole_s is None else f"{one.whole_s:.1f} s",
        f"{one.others:.0%}" if under_load else "–",
    )


def _machines(results: Sequence[Result]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in results:
        what = ", ".join(f"{name} {value}" for name, value in one.measured.items())
        found.setdefault(what, []).append(one.row)
    return found


def known(folder: Path = RESULTS) -> list[Result]:
    """The results there are, in the order of the rows."""
    return [Result.read(folder / f"{name}.json") for name in NAMES if (folder / f"{name}.json").exists()]


def written(text: str, results: Sequence[Result]) -> str:
    """The page with the table between its marks. Raises ValueError where it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has no lines {BEGIN!r} and {END!r} for the table to stand between")
    return f"{before}{BEGIN}\n{table(results)}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(), known()))
