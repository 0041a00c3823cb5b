from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu.py"
FOREIGN = ("safetensors", "pyarrow", "pydantic", "faiss", "typer")

ALONE = f"""
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {FOREIGN}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.path[0] = {str(SCRIPT.parent)!r}
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""


def test_it_runs_with_torch_and_numpy_alone_and_agrees(tmp_path: Path) -> None:
    """Also where there is no GPU, which it says."""
    out = tmp_path / "figures.json"
    arguments = ["--items", "400", "--repeats", "1", "--batches", "1", "3", "--json", str(out)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "No GPU" in done.stdout or "GPU:" in done.stdout
    figures = json.loads(out.read_text())
    assert figures["ranker.relative_error"] <= 1e-3
    assert figures["query_tower.relative_error"] <= 1e-3
    assert figures["ranker.packed_on_the_cpu.b3.candidates_per_s"] > 0
