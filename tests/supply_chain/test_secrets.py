"""No file of the repository holds a secret, by the shapes that leaked ones have.

Two kinds of shape: those that issuers give theirs, and what looks drawn at random, by its entropy, where a name says
that it is secret or quotes hold a long one.
"""

from __future__ import annotations

import math
import re
import secrets
import string
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    "npm token": r"\bnpm_[A-Za-z0-9]{36}\b",
    "GitLab token": r"\bgl(?:pat|dt|rt|cbt|ptt)-[A-Za-z0-9_-]{20,}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "key of a model's API": r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}",
    "Stripe key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "SendGrid key": r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b",
    "Twilio key": r"\b(?:AC|SK)[0-9a-f]{32}\b",
    "Azure storage key": r"AccountKey=[A-Za-z0-9+/]{86}==",
    "API key of Cascade": r"\bcascade_[0-9a-f]{8}_[A-Za-z0-9_-]{43}\b",
    "password in a URL": r"\b(?:redis|rediss|postgres|postgresql|https?|amqp)://[^\s/:@'\"{}$<>]*:[^\s/:@'\"{}$<>]{6,}@",
}
RANDOM = {
    "value of a secret's name": (
        r"(?i)(?:secret|token|passw(?:or)?d|api_?key|access_?key|private_?key|credential)[\w.-]*['\"]?\s*(?::=|=>|[:=])"
        r"\s*['\"]?([A-Za-z0-9+/_=.~-]{16,})",
        3.5,
    ),
    "string drawn at random": (
        r"['\"]([A-Za-z0-9+/_-]{32,}={0,2})['\"]",
        4.3,
    ),  # above every digest in hexadecimal digits
}
"""Shape, and from which entropy in bits a character on it counts."""

EXAMPLES = re.compile(
    r":(?:TOKEN|PASSWORD|password|secret|hunter2|s3cret|token|p%40ss)@"
    r"|0123456789abcdef|0f1e2d3c4b5a69788796a5b4c3d2e1f0"  # count up, or up and down
)
"""What documentation and tests put where a secret goes."""


def entropy(text: str) -> float:
    """Of Shannon, in bits a character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def found(text: str) -> list[str]:
    """Kinds of secret in a text, and where."""
    return [
        f"{kind} in line {text[: match.start()].count(chr(10)) + 1}"
        for kind, shape in SHAPES.items()
        for match in re.finditer(shape, text)
        if not EXAMPLES.search(match[0])
    ] + [
        f"{kind} in line {text[: match.start()].count(chr(10)) + 1}"
        for kind, (shape, least) in RANDOM.items()
        for match in re.finditer(shape, text)
        if entropy(match[1]) >= least and re.search(r"\d", match[1]) and not EXAMPLES.search(match[0])
    ]


def hits_in(checkout: Path) -> list[str]:
    """What the tracked files of a checkout hold."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=checkout, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to the repository is not known")
    paths = [checkout / name for name in filter(None, listed.stdout.split("\0"))]
    return [
        f"{path.relative_to(checkout)}: {hit}"
        for path in paths
        if path.is_file()
        for hit in found(path.read_text(errors="ignore"))
    ]


def test_no_file_holds_one() -> None:
    assert hits_in(ROOT) == []


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
        ("pypi-AgE" + 60 * "x", "PyPI token"),
        ("npm_" + 36 * "x", "npm token"),
        ("glpat-" + 20 * "x", "GitLab token"),
        ("hf_" + 34 * "x", "Hugging Face token"),
        ("sk-ant-" + 40 * "x", "key of a model's API"),
        ("sk_live_" + 24 * "x", "Stripe key"),
        ("SG." + 22 * "x" + "." + 43 * "y", "SendGrid key"),
        ("AC" + 32 * "a", "Twilio key"),
        ("AccountKey=" + 86 * "x" + "==", "Azure storage key"),
        ("DB_PASSWORD=" + "q7Zr2LmX" + "9sKw4TnB", "value of a secret's name"),
        ('"apiKey": "' + "q7Zr2LmX" + '9sKw4TnB"', "value of a secret's name"),
        ("x = '" + "q7Zr2LmX9sKw4TnB" + "vC5hJd8GfYp3Ea6U'", "string drawn at random"),
    ],
)
def test_each_shape_is_seen(text: str, kind: str) -> None:
    assert found(f"first\n{text}\n") == [f"{kind} in line 2"]


@pytest.mark.parametrize(
    "text",
    [
        "rediss://:TOKEN@ENDPOINT:6379/0",
        'token = "' + "a" * 40 + '"',
        "internal_token=settings.internal_token.get_secret_value()",
        "sha = '" + "53aa51172d142c89" * 4 + "'",
        "secretName: cascade-internal-token",
    ],
)
def test_what_only_looks_like_one_is_none(text: str) -> None:
    assert found(text) == []


@given(st.text(string.ascii_letters + string.digits, min_size=1, max_size=100))
def test_entropy_is_between_none_and_that_of_all_different(text: str) -> None:
    assert -1e-9 <= entropy(text) <= math.log2(len(text)) + 1e-9


def test_what_is_drawn_at_random_is_seen() -> None:
    """A draw may by chance have low entropy, or no digit; a hundred do not."""
    drawn = [secrets.token_urlsafe(32) for _ in range(100)]
    assert sum(bool(found(f"api_key = '{one}'")) for one in drawn) > 90


def test_one_planted_in_a_checkout_is_found(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "fine.py").write_text("x = 1\n")
    (tmp_path / "untracked.env").write_text("key = AKIA" + "ABCDEFGHIJKLMNOP")
    (tmp_path / "leak.env").write_text("first\nkey = AKIA" + "ABCDEFGHIJKLMNOP")
    subprocess.run(["git", "add", "fine.py", "leak.env"], cwd=tmp_path, check=True)
    assert hits_in(tmp_path) == ["leak.env: AWS access key in line 2"]
