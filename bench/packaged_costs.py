"""`python -m bench.packaged_costs`: copies what `cascade capacity` needs outside a checkout into the library."""

from __future__ import annotations

import json
from pathlib import Path

import cascade.capacity
from bench.report import RESULTS
from cascade.capacity.costs import NAMES
from cascade.files import replacing

PACKAGED = Path(cascade.capacity.__path__[0]) / "data" / "costs.json"


def main() -> None:
    """Copy them from `latest.json`, names, values and units."""
    figures = json.loads((RESULTS / "latest.json").read_text())["figures"]
    kept = {name: {key: figures[name][key] for key in ("value", "unit")} for name in sorted(NAMES)}
    with replacing(PACKAGED) as beside:
        beside.write_text(json.dumps({"figures": kept}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
