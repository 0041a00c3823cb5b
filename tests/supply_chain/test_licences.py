"""Everything that an install brings may be used in, and shipped with, a product: its licence is one of those listed."""

from __future__ import annotations

from email.message import Message
from importlib import metadata
from typing import cast

import pytest

from supply_chain import licences
from supply_chain.locks import EXTRAS, TORCH_CUDA, path_of, read

RULES = licences.rules()
FAULT = "{name} {version} is under {licence!r}: leave it out, or look at the licence and list it in licences.toml"


def installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def test_every_licence_is_one_of_those_listed() -> None:
    looked_at, faults, absent = 0, [], []
    for pin in {pin for lock in (*EXTRAS, TORCH_CUDA) for pin in read(path_of(lock)) if pin.applies({})}:
        if RULES.naming(pin.name):
            continue
        if not installed(pin.name):
            absent.append(pin.name)
            continue
        looked_at += 1
        licence = licences.licence_of(pin.name, RULES)
        if not RULES.allows(licence):
            faults.append(FAULT.format(name=pin.name, version=pin.version, licence=licence))
    assert faults == []
    assert looked_at > 150
    if absent:  # newer versions than the locked ones are installed, and need less
        pytest.skip(f"all others are allowed; not installed, so not looked at: {absent}; `make locked` installs them")


def test_what_is_named_is_locked_and_says_why() -> None:
    locked = {pin.name for lock in (*EXTRAS, TORCH_CUDA) for pin in read(path_of(lock))}
    for one in RULES.named:
        assert one.why
        for pattern in one.names:
            assert any(RULES.naming(name) is one for name in locked), f"{pattern} is in no lock: take it out"


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("BSD-3-Clause AND 0BSD AND Zlib", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("GPL-2.0-only OR MIT", True),
        ("GPL-2.0-only AND MIT", False),
        ("MIT AND (GPL-3.0-only OR AGPL-3.0-only)", False),
        ("LGPL-3.0-or-later", False),
        ("SSPL-1.0", False),
        ("BUSL-1.1", False),
        ("Apache-2.0 WITH Commons-Clause", False),
        ("LicenseRef-NVIDIA-Proprietary", False),
        ("My own licence", False),
        ("", False),
    ],
)
def test_an_expression_is_allowed_if_a_choice_of_listed_ones_is_left(licence: str, allowed: bool) -> None:
    assert RULES.allows(licence) is allowed


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("License-Expression", "MIT"), ("Classifier", "License :: OSI Approved :: BSD License")], "MIT"),
        ([("Classifier", "License :: OSI Approved :: MIT License"), ("License", "GPL")], "MIT"),
        (
            [
                ("Classifier", "License :: OSI Approved :: MIT License"),
                ("Classifier", "License :: OSI Approved :: Apache Software License"),
            ],
            "MIT AND Apache-2.0",
        ),
        ([("Classifier", "License :: OSI Approved"), ("License", "BSD\nlong text")], "BSD-3-Clause"),
        ([("Classifier", "Programming Language :: Python"), ("License", "MPL-2.0 AND MIT")], "(MPL-2.0 AND MIT)"),
        ([("License", "")], ""),
        ([], ""),
    ],
)
def test_a_distribution_is_asked_for_its_expression_then_its_classifiers_then_the_old_field(
    fields: list[tuple[str, str]], expected: str
) -> None:
    said = Message()
    for name, value in fields:
        said.add_header(name, value)
    assert licences.told(cast("metadata.PackageMetadata", said), RULES.spelled) == expected


def test_a_name_in_the_file_goes_before_what_the_distribution_says() -> None:
    assert licences.licence_of("nvidia-anything", RULES) == "LicenseRef-NVIDIA-Proprietary"
    assert licences.licence_of("pytest", RULES) == "MIT"
    assert licences.licence_of("not-installed-anywhere", RULES) == ""
