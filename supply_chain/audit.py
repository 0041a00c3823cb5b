"""`make audit`: what the locks hold against the list of known vulnerabilities, by pip-audit.

Exit status: 0 nothing known, or skipped because the list cannot be reached; 1 something is known that accepted.toml
does not accept, or an acceptance has run out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from supply_chain.locks import BUILD, TORCH_CUDA, path_of

ACCEPTED = Path(__file__).with_name("accepted.toml")
AUDITED = ("development", TORCH_CUDA, "faiss-gpu", BUILD)
"""Together they hold every pin: what a service holds, development holds in the same version."""

_UNREACHABLE = (
    "ConnectionError",
    "ConnectTimeout",
    "ReadTimeout",
    "ProxyError",
    "SSLError",
    "HTTPError",
    "ServiceError",
)


@dataclass(frozen=True)
class Acceptance:
    """A vulnerability that is lived with for a while."""

    id: str
    why: str
    until: date


@dataclass(frozen=True)
class Verdict:
    """What came of an audit."""

    lines: Sequence[str]
    failed: bool


def judged(report: dict[str, Any], accepted: Sequence[Acceptance], today: date) -> Verdict:
    """What a report of pip-audit, as JSON, comes to.

    A distribution that the list does not know counts as not looked at. Where it knows none, it is no list: a mirror of
    a registry answers like that, and pip-audit then calls all well.
    """
    looked_at = [one for one in report["dependencies"] if "skip_reason" not in one]
    missing = [one["name"] for one in report["dependencies"] if "skip_reason" in one]
    if not looked_at:
        return Verdict(["skipped: database not reachable (it knows none of the distributions)"], failed=False)
    known = {one.id: one for one in accepted}
    lines, failed = [], False
    for one in looked_at:
        for found in one["vulns"]:
            names = [found["id"], *found.get("aliases", ())]
            acceptance = next((known[name] for name in names if name in known), None)
            fix = ", ".join(found.get("fix_versions", ())) or "none yet"
            line = f"{one['name']} {one['version']}: {' = '.join(names)}, fixed in: {fix}"
            if acceptance is None:
                failed = True
                lines.append(line)
            elif acceptance.until < today:
                failed = True
                lines.append(f"{line}; accepted until {acceptance.until}, which is over")
            else:
                lines.append(f"{line}; accepted until {acceptance.until}: {acceptance.why}")
    if missing:
        lines.append(f"not looked at, because the database does not know them: {', '.join(missing)}")
    lines.append(f"{len(looked_at)} distributions looked at: {'something is known' if failed else 'nothing to do'}")
    return Verdict(lines, failed)


def unreachable(complaint: str) -> bool:
    """Whether what pip-audit wrote before it gave up tells of the way to the database, and not of the locks."""
    last = complaint.strip().splitlines()[-1:] or [""]
    return any(name in last[0] for name in _UNREACHABLE)


def accepted(path: Path = ACCEPTED) -> list[Acceptance]:
    """What is lived with."""
    return [Acceptance(**one) for one in tomllib.loads(path.read_text()).get("accepted", ())]


def main() -> int:
    """Ask, and say what came of it."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        asked = [argument for lock in AUDITED for argument in ("-r", str(path_of(lock)))]
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner=off"]
        done = subprocess.run(
            [*command, "--format=json", f"--output={report}", *asked], stderr=subprocess.PIPE, text=True, check=False
        )
        if not report.exists():
            if unreachable(done.stderr):
                print("audit: skipped: database not reachable")
                return 0
            print(done.stderr, file=sys.stderr)
            return done.returncode or 1
        verdict = judged(json.loads(report.read_text()), accepted(), datetime.now(UTC).date())
    for line in verdict.lines:
        print(f"audit: {line}")
    return 1 if verdict.failed else 0


if __name__ == "__main__":
    sys.exit(main())
