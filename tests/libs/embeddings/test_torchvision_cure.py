"""The cure acts on a process's imports, so it is tried in a process of its own."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_torchvision_and_the_encoder_libraries_import_after_it() -> None:
    out = run(
        "try:\n"
        "    import torchvision\n"  # fails beside a CPU build of torch and leaves half of itself behind
        "except RuntimeError:\n"
        "    pass\n"
        "from cascade.embeddings import torchvision_cure as cure\n"
        "first = cure.import_torchvision()\n"
        "cure._declare_missing_operators()\n"  # a second time: nothing is missing any more
        "import torchvision, open_clip, sentence_transformers\n"
        "assert first is torchvision is cure.import_torchvision()\n"
        "import torch\n"
        "print(torchvision.transforms.functional.resize(torch.zeros(3, 8, 8), [4, 4]).shape)\n"
    )
    assert "torch.Size([3, 4, 4])" in out


def test_absent_torchvision_is_not_needed() -> None:
    out = run(
        "import sys\n"
        "sys.modules['torchvision'] = None\n"  # how Python spells 'not installed'
        "from cascade.embeddings.torchvision_cure import import_torchvision\n"
        "print(import_torchvision())\n"
    )
    assert out.strip() == "None"
