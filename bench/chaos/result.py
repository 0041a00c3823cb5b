"""What a row found, what it had to hold, and the file it is kept in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results" / "chaos"


@dataclass(frozen=True)
class Grown:
    """How memory and open files of one process went on after the warm-up.

    mib: resident at its beginning, by the line through all samples; percent: by how much it grew over the time watched
    files_before, files_after: fewest of the first and of the last third; files_most: of all
    """

    name: str
    mib: float
    percent: float
    mib_an_hour: float
    files_before: int
    files_after: int
    files_most: int


@dataclass
class Result:
    """One row of the table. Times in seconds, latencies in milliseconds.

    answers, failed: lists asked of gateways that nothing was done to; elsewhere: failed at the one that was killed
    refused: lists refused with 429 and Retry-After
    degraded: stage → lists made without it
    p99_during: while the fault lasted; p50, p99: over the whole row
    accepted, rejected: clicks answered with 202; with 503 or 429 and Retry-After
    click_faults: clicks answered in any other way
    lost: accepted clicks that are neither in the stream nor in the Parquet; again: clicked items in later lists
    whole_s: after the return until the last list that was degraded or failed
    others: share of the processor that other programs took meanwhile
    grown: of the soak, how each process went on
    told: figures and words of the row's own
    faults: what did not hold
    """

    row: str
    title: str
    must: str
    seconds: float = 0.0
    answers: int = 0
    failed: int = 0
    elsewhere: int = 0
    refused: int = 0
    degraded: dict[str, int] = field(default_factory=dict)
    p50: float = 0.0
    p99: float = 0.0
    p99_during: float = 0.0
    accepted: int = 0
    rejected: int = 0
    click_faults: int = 0
    lost: int = 0
    again: int = 0
    whole_s: float | None = None
    others: float = 0.0
    grown: list[Grown] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    measured: dict[str, str] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        """Whether all held."""
        return not self.faults

    def require(self, holds: bool, what: str) -> None:
        """Take note of what does not hold."""
        if not holds:
            self.faults.append(what)

    def write(self, folder: Path = RESULTS) -> Path:
        """Keep it, in the place of an earlier one."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.row}.json"
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> Result:
        """The other way."""
        content = json.loads(path.read_text())
        content["grown"] = [Grown(**one) for one in content.get("grown", [])]
        return cls(**content)


def quantile_ms(seconds: Sequence[float], share: float) -> float:
    """The nearest-rank quantile in milliseconds; 0 of nothing."""
    if not seconds:
        return 0.0
    ordered = sorted(seconds)
    return round(1000 * ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)], 1)


def in_words(counts: Mapping[str, int]) -> str:
    """`3 ranker, 2 filter`; a dash for nothing."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())) or "–"
