"""No file of the repository holds a secret, by the shapes that leaked ones have."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHAPES = {
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "AWS secret key": r"(?i)aws_?secret_?access_?key['\"]?\s*[:=]\s*['\"]?[A-Za-z0-9/+]{40}\b",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_[A-Za-z0-9_]{40,}\b",
    "Slack token or hook": r"\bxox[abprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/T\w+/B\w+/\w+",
    "Google key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\b",
    "PyPI token": r"\bpypi-AgE[A-Za-z0-9_-]{50,}",
    "API key of Cascade": r"\bcascade_[0-9a-f]{8}_[A-Za-z0-9_-]{43}\b",
    "password in a URL": r"\b(?:redis|rediss|postgres|postgresql|https?|amqp)://[^\s/:@'\"{}$<>]*:[^\s/:@'\"{}$<>]{6,}@",
}
EXAMPLES = re.compile(r":(?:TOKEN|PASSWORD|password|secret|hunter2|s3cret|token|p%40ss)@")
"""What documentation and tests put where a password goes."""


def found(text: str) -> list[str]:
    """Kinds of secret in a text, and where."""
    return [
        f"{kind} in line {text[: match.start()].count(chr(10)) + 1}"
        for kind, shape in SHAPES.items()
        for match in re.finditer(shape, text)
        if not EXAMPLES.search(match[0])
    ]


def test_no_file_holds_one() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to the repository is not known")
    hits = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file():
            text = path.read_text(errors="ignore")
            hits += [f"{name}: {hit}" for hit in found(text)]
    assert hits == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "private key"),
        ("key = AKIA" + "ABCDEFGHIJKLMNOP", "AWS access key"),
        ("aws_secret_access_key = '" + 40 * "a" + "'", "AWS secret key"),
        ("ghp_" + 36 * "x", "GitHub token"),
        ("xoxb-" + 12 * "1", "Slack token or hook"),
        ("AIza" + 35 * "y", "Google key"),
        ("eyJ" + 12 * "a" + ".eyJ" + 12 * "b" + "." + 12 * "c", "JSON web token"),
        ("cascade_0123abcd_" + 43 * "k", "API key of Cascade"),
        ("rediss://user:" + "abcdefgh@example.com", "password in a URL"),
    ],
)
def test_each_shape_is_seen(text: str, kind: str) -> None:
    assert found(f"first\n{text}\n") == [f"{kind} in line 2"]


def test_examples_of_documentation_are_none() -> None:
    assert found("rediss://:TOKEN@ENDPOINT:6379/0") == []
