"""What `make audit` makes of pip-audit's report, and of the lack of one."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from supply_chain.audit import AUDITED, Acceptance, accepted, judged, unreachable
from supply_chain.locks import LOCKS, TORCH_CPU, path_of, read

TODAY = date(2026, 6, 1)
FOUND = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.0"], "description": "…"}


def report(*vulns: dict[str, Any], unknown: int = 0) -> dict[str, Any]:
    strangers = [{"name": f"stranger-{n}", "skip_reason": "Dependency not found"} for n in range(unknown)]
    return {"dependencies": [{"name": "thing", "version": "1.0", "vulns": list(vulns)}, *strangers]}


def test_nothing_known() -> None:
    verdict = judged(report(), [], TODAY)
    assert not verdict.failed
    assert verdict.lines == ["1 distributions looked at: nothing to do"]


def test_a_finding_fails_and_says_what_and_which_version_helps() -> None:
    verdict = judged(report(FOUND), [], TODAY)
    assert verdict.failed
    assert verdict.lines[0] == "thing 1.0: PYSEC-2026-1 = CVE-2026-1, fixed in: 2.0"


@pytest.mark.parametrize("name", ["PYSEC-2026-1", "CVE-2026-1"])
def test_a_finding_is_accepted_by_any_of_its_names_until_the_day(name: str) -> None:
    lived_with = Acceptance(name, "not called here", until=TODAY)
    verdict = judged(report(FOUND), [lived_with], TODAY)
    assert not verdict.failed
    assert "not called here" in verdict.lines[0]

    over = judged(report(FOUND), [lived_with], date(2026, 6, 2))
    assert over.failed
    assert "which is over" in over.lines[0]


def test_another_acceptance_lets_nothing_through() -> None:
    assert judged(report(FOUND), [Acceptance("CVE-2026-2", "", TODAY)], TODAY).failed


def test_a_list_that_knows_nothing_is_no_list() -> None:
    verdict = judged({"dependencies": report(unknown=3)["dependencies"][1:]}, [], TODAY)
    assert not verdict.failed
    assert verdict.lines[0].startswith("skipped: database not reachable")


def test_what_was_not_looked_at_is_named() -> None:
    assert (
        "not looked at, because the database does not know them: stranger-0"
        in judged(report(unknown=1), [], TODAY).lines
    )


def test_no_way_to_the_database_is_told_from_a_fault_of_ours() -> None:
    assert unreachable("Traceback…\nrequests.exceptions.ProxyError: HTTPSConnectionPool(…): Max retries exceeded")
    assert not unreachable("ERROR:pip_audit._cli:package is missing a hash")
    assert not unreachable("")


def test_without_a_network_it_says_skipped() -> None:
    program = "from supply_chain import audit; audit.AUDITED = ('build',); raise SystemExit(audit.main())"
    nowhere = "http://127.0.0.1:9"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        env={"PATH": "", "HTTPS_PROXY": nowhere, "HTTP_PROXY": nowhere, "PIP_CACHE_DIR": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "audit: skipped: database not reachable\n", done.stderr
    assert done.returncode == 0


def test_every_pin_of_every_lock_is_audited() -> None:
    audited = {(pin.name, pin.version) for lock in AUDITED for pin in read(path_of(lock))}
    for lock in set(LOCKS) - {TORCH_CPU}:  # the same torch as the others', in another build
        assert {(pin.name, pin.version) for pin in read(path_of(lock))} <= audited


def test_acceptances_are_read(tmp_path: Path) -> None:
    path = tmp_path / "accepted.toml"
    path.write_text('[[accepted]]\nid = "CVE-1"\nwhy = "w"\nuntil = 2026-12-31\n')
    assert accepted(path) == [Acceptance("CVE-1", "w", date(2026, 12, 31))]
    assert all(one.why for one in accepted())
