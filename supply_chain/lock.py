"""`make lock`: the newest versions that pyproject.toml allows, written into requirements/, with hashes.

All locks agree on every version: they are drawn from one resolution of everything, so what tests run on is what images
hold. It is for every system and for each Python that the project supports. Hashes are those of the ordinary package
registry, whose torch for Linux is the CUDA build. For torch and torchvision those of PyTorch's CPU builds come on top
(`torch-cpu.sha256`): the pin of a public version admits either build, and `torch-cpu.lock` the CPU build alone.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from uv import find_uv_bin

from supply_chain.locks import BUILD, EXTRAS, FOLDER, ROOT, TORCH_CPU, TORCH_CUDA, direct, path_of, project

CPU_BUILDS = FOLDER / "torch-cpu.sha256"
"""As sha256sum writes it: digest, two spaces, name of the wheel."""

OLDEST_PYTHON = "3.11"
_CUDA = re.compile(r"nvidia-|cuda-|triton==")
"""Distributions that only a CUDA build of torch needs."""

_COMPILE = (
    "pip", "compile", "--quiet", "--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes",
    "--no-emit-index-url", "--custom-compile-command", "make lock",
)  # fmt: skip


class NoCpuBuild(ValueError):
    """The CPU build of a pinned version has no hash here."""


def blocks(lock: str) -> list[str]:
    """A lock's text in pieces: the head of comments, then each pin with its hashes and comments."""
    return [piece for piece in re.split(r"^(?=[^\s#])", lock, flags=re.MULTILINE) if piece]


def without_cuda(pieces: Iterable[str]) -> list[str]:
    """Pieces without what only the CUDA build of torch needs."""
    return [piece for piece in pieces if not _CUDA.match(piece)]


def with_cpu_builds(piece: str, cpu_builds: str) -> str:
    """A pin of torch or torchvision with the hashes of its CPU builds too; any other piece as it is.

    Raises:
        NoCpuBuild: `cpu_builds` has none of this version.
    """
    pinned = re.match(r"(torch|torchvision)==([^\s;]+)", piece)
    if pinned is None:
        return piece
    hashes = {*re.findall(r"sha256:([0-9a-f]{64})", piece), *hashes_of_cpu_builds(pinned[1], pinned[2], cpu_builds)}
    comments = [f"{line}\n" for line in piece.splitlines() if line.lstrip().startswith("#")]
    return "".join([_pin(pinned[0], hashes), *comments])


def hashes_of_cpu_builds(name: str, version: str, cpu_builds: str) -> list[str]:
    """Digests of a distribution's wheels in a list as sha256sum writes it.

    Raises:
        NoCpuBuild: the list has none of this version.
    """
    wheel = re.compile(rf"^([0-9a-f]{{64}})  {name}-{re.escape(version)}\+cpu-", flags=re.MULTILINE)
    if found := wheel.findall(cpu_builds):
        return found
    raise NoCpuBuild(
        f"{CPU_BUILDS.name} has no CPU build of {name} {version}: take digests and names of its wheels from PyTorch's "
        "index of CPU builds"
    )


def _pin(requirement: str, hashes: Iterable[str]) -> str:
    return " \\\n".join([requirement, *(f"    --hash=sha256:{digest}" for digest in sorted(hashes))]) + "\n"


def main() -> None:
    """Write every lock anew."""
    cpu_builds = CPU_BUILDS.read_text()
    with TemporaryDirectory() as folder:
        everything = Path(folder) / "everything.txt"
        everything.write_text(_resolved(extras=sorted({extra for extras in EXTRAS.values() for extra in extras})))
        for lock, extras in EXTRAS.items():
            pieces = blocks(_resolved(extras=extras, agreeing_with=everything))
            if lock != "faiss-gpu":  # for a GPU alone, with CUDA's own libraries of its own version
                pieces = without_cuda(pieces)
            _write(lock, [with_cpu_builds(piece, cpu_builds) for piece in pieces])

        torch = next(one for one in direct(("ranker",)) if one.name == "torch")
        (version,) = (one.version for one in torch.specifier)
        head, *pieces = blocks(_resolved([str(torch)], agreeing_with=everything))
        cpu = _pin(
            f"torch=={version}+cpu ; sys_platform == 'linux'", hashes_of_cpu_builds("torch", version, cpu_builds)
        )
        _write(TORCH_CPU, [head, cpu])
        _write(TORCH_CUDA, [head, *(piece for piece in pieces if _CUDA.match(piece))])
        _write(BUILD, blocks(_resolved(project()["build-system"]["requires"], agreeing_with=everything)))


def _resolved(
    requirements: Iterable[str] = (), *, extras: Iterable[str] = (), agreeing_with: Path | None = None
) -> str:
    """A lock's text for the requirements given, or for extras of the project."""
    command = [find_uv_bin(), *_COMPILE, *(f"--extra={extra}" for extra in extras)]
    if agreeing_with is not None:
        # pip takes the pin of `gql` for none of `gql[requests]`; a constraint, on the other hand, may have no extras
        command += [f"--constraint={agreeing_with}", "--no-strip-extras"]
    command.append("pyproject.toml" if extras else "-")
    # uv has certificates of its own; where a company's stand between, pip's setting names them
    environment = os.environ | ({"SSL_CERT_FILE": os.environ["PIP_CERT"]} if os.environ.get("PIP_CERT") else {})
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input="\n".join(requirements), stdout=subprocess.PIPE, text=True, check=True
    )
    # the path of the temporary file says nothing to a reader
    return re.sub(r"^ +#(?: via)? +-c .*\n", "", done.stdout, flags=re.MULTILINE)


def _write(lock: str, pieces: Iterable[str]) -> None:
    text = "".join(pieces)
    path_of(lock).write_text(text)
    print(f"{path_of(lock).relative_to(ROOT)}: {len(re.findall('^[a-z0-9]', text, flags=re.MULTILINE))} pins")


if __name__ == "__main__":
    main()
