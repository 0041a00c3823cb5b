"""The locks hold what pyproject.toml asks for, all of it hashed, and install.

The last needs a network and minutes: only with CASCADE_TEST_LOCKS=1 (all), or =gateway,filter (some). The workflow
`images` does it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from supply_chain import lock
from supply_chain.locks import (
    BUILD,
    EXTRAS,
    FOLDER,
    LOCKS,
    SERVICES,
    TORCH_CPU,
    TORCH_CUDA,
    LockUnreadable,
    direct,
    path_of,
    project,
    read,
)

ASKED = os.environ.get("CASCADE_TEST_LOCKS", "")
CUDA = re.compile(r"nvidia-|cuda-|triton$")


def test_there_are_these_locks_and_no_others() -> None:
    assert {path.stem for path in FOLDER.glob("*.lock")} == set(LOCKS)
    assert {extra for extra in SERVICES if extra in project()["project"]["optional-dependencies"]} == set(SERVICES)


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_is_hashed(name: str) -> None:
    pins = read(path_of(name))
    assert pins
    for pin in pins:
        assert pin.hashes, f"{name}: {pin.name} {pin.version} has no hash; run `make lock`"
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in pin.hashes), pin.name


@pytest.mark.parametrize("name", EXTRAS)
def test_what_an_extra_names_is_pinned_within_its_range(name: str) -> None:
    asked = direct(EXTRAS[name])
    assert asked
    faults_of = [fault for requirement in asked if (fault := _fault(requirement, name))]
    assert faults_of == []


def test_the_builder_is_pinned_within_its_range() -> None:
    asked = [Requirement(one) for one in project()["build-system"]["requires"]]
    assert [fault for requirement in asked if (fault := _fault(requirement, BUILD))] == []


def _fault(requirement: Requirement, lock_name: str) -> str | None:
    pins = [pin for pin in read(path_of(lock_name)) if pin.name == canonicalize_name(requirement.name)]
    if not pins:
        return f"{lock_name}: {requirement} is not pinned; run `make lock`"
    if any(not requirement.extras <= pin.extras for pin in pins):  # to pip, that is no pin of this requirement
        return f"{lock_name}: {requirement} is pinned without its extras; run `make lock`"
    outside = [pin.version for pin in pins if not requirement.specifier.contains(pin.version)]
    return f"{lock_name}: {requirement} is pinned to {outside}; run `make lock`" if outside else None


@pytest.mark.parametrize("name", EXTRAS)
def test_what_a_pin_needs_is_pinned_too(name: str) -> None:
    """By what installed distributions say; those of another version than the locked one are left to the last test."""
    pins = {pin.name: pin for pin in read(path_of(name)) if pin.applies({})}
    looked_at, faults = 0, []
    for pin in pins.values():
        try:
            installed = metadata.distribution(pin.name)
        except metadata.PackageNotFoundError:
            continue
        if installed.version != pin.version:
            continue
        looked_at += 1
        for needed in map(Requirement, installed.requires or ()):
            if needed.marker and not any(needed.marker.evaluate({"extra": one}) for one in ("", *pin.extras)):
                continue
            found = pins.get(canonicalize_name(needed.name))
            if found is pin:  # an extra of its own that consists of others
                continue
            if found is None or not needed.specifier.contains(found.version) or not needed.extras <= found.extras:
                faults.append(f"{pin.name} needs {needed}, and the lock has {found}")
    assert faults == []
    assert looked_at > 0


def test_all_locks_agree_so_tests_run_on_what_images_hold() -> None:
    developed = {(pin.name, pin.version, pin.hashes) for pin in read(path_of("development"))}
    for service in SERVICES:
        missing = {pin.name for pin in read(path_of(service)) if (pin.name, pin.version, pin.hashes) not in developed}
        assert missing == set(), service


def test_torchs_two_builds_are_told_apart() -> None:
    for name in ("development", *SERVICES):
        assert [pin.name for pin in read(path_of(name)) if CUDA.match(pin.name)] == []
    assert all(CUDA.match(pin.name) for pin in read(path_of(TORCH_CUDA)))

    (cpu,) = read(path_of(TORCH_CPU))
    assert cpu.version.endswith("+cpu")
    for name in ("retrieval", "ranker", "orchestration", "development"):
        (pinned,) = (pin for pin in read(path_of(name)) if pin.name == "torch")
        assert cpu.version == f"{pinned.version}+cpu"
        assert (
            cpu.hashes < pinned.hashes
        )  # a constraint's hashes and a pin's must share some: pip takes what is in both


def test_no_lock_names_an_index() -> None:
    for path in FOLDER.iterdir():
        assert not re.search(r"://|--(?:extra-)?index-url|--find-links", path.read_text()), path.name


def test_a_line_without_an_exact_version_is_refused(tmp_path: Path) -> None:
    loose = tmp_path / "loose.lock"
    loose.write_text("# made by hand\nnumpy>=2 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(LockUnreadable, match="'numpy>=2' is no exact version"):
        read(loose)


def test_a_pin_knows_its_systems(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"
    path.write_text("uvloop==0.23.0 ; sys_platform != 'win32' \\\n    --hash=sha256:" + "a" * 64 + "\n    # via x\n")
    (pin,) = read(path)
    assert (pin.name, pin.version, pin.hashes) == ("uvloop", "0.23.0", frozenset({"a" * 64}))
    assert pin.applies({"sys_platform": "linux"})
    assert not pin.applies({"sys_platform": "win32"})


MADE = """# head
nvidia-nvtx==13.0 ; sys_platform == 'linux' \\
    --hash=sha256:{a}
    # via torch
torch==2.13.0 \\
    --hash=sha256:{b}
    # via
    #   ours
triton==3.7.1 \\
    --hash=sha256:{a}
""".format(a="a" * 64, b="b" * 64)


def test_pieces_are_the_text_and_cuda_goes() -> None:
    pieces = lock.blocks(MADE)
    assert "".join(pieces) == MADE
    assert [piece.split("=")[0] for piece in lock.without_cuda(pieces)] == ["# head\n", "torch"]


def test_a_cpu_build_is_let_in_beside_the_ordinary_one() -> None:
    builds = f"{'0' * 64}  torch-2.13.0+cpu-cp311-cp311-linux.whl\n{'1' * 64}  torch-2.14.0+cpu-cp311-cp311-linux.whl\n"
    piece = lock.with_cpu_builds(lock.blocks(MADE)[2], builds)
    assert piece == (
        f"torch==2.13.0 \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{'b' * 64}\n    # via\n    #   ours\n"
    )
    assert lock.with_cpu_builds(lock.blocks(MADE)[3], builds) == lock.blocks(MADE)[3]


def test_a_torch_whose_cpu_build_is_not_known_is_refused() -> None:
    with pytest.raises(lock.NoCpuBuild, match=r"no CPU build of torch 2\.13\.0: take digests"):
        lock.with_cpu_builds("torch==2.13.0 \\\n    --hash=sha256:" + "b" * 64, f"{'0' * 64}  torch-2.14.0+cpu-x.whl\n")


@pytest.mark.skipif(not ASKED, reason="loads gigabytes: set CASCADE_TEST_LOCKS=1, or to names of locks")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [one for one in (*EXTRAS, BUILD) if ASKED in ("", "1") or one in ASKED.split(",")])
def test_a_lock_is_whole_in_a_fresh_environment(name: str, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--dry-run"]
    asked = ["--require-hashes", "--only-binary", ":all:", "-r", str(path_of(name))]
    if any(pin.name == "torch" for pin in read(path_of(name))):
        (cpu,) = read(path_of(TORCH_CPU))
        found = subprocess.run([*pip, "--no-deps", f"torch==={cpu.version}"], check=False, capture_output=True)
        asked += ["-c", str(path_of(TORCH_CPU))] if found.returncode == 0 else ["-r", str(path_of(TORCH_CUDA))]
    done = subprocess.run([*pip, *asked], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
