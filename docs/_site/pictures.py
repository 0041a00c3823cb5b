"""Pictures of the page, from what the browser tests took of it: `make pictures`.

python docs/_site/pictures.py [FOLDER]      the tests' folder; artifacts/screenshots by default
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
TAKEN = ROOT / "artifacts" / "screenshots"
KEPT = ROOT / "docs" / "images"
NAMES = {
    "shop": "shop-light",
    "change": "change-light",
    "trace": "trace-light",
    "why": "why-light",
    "models": "models-light",
}
"""Name in docs/images → the test's."""
AT_MOST = 100_000
WIDTH = 1000


def small(picture: Image.Image) -> bytes:
    """WebP of at most AT_MOST bytes, as good as that allows. Raises ValueError where even poor ones are larger."""
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    for quality in range(90, 20, -10):
        kept = io.BytesIO()
        picture.convert("RGB").save(kept, "WEBP", quality=quality, method=6)
        if kept.tell() <= AT_MOST:
            return kept.getvalue()
    raise ValueError(f"a picture of {picture.size} is larger than {AT_MOST} bytes: keep a smaller part of the page")


def main(taken: Path) -> None:
    """Write them all, and say what each holds."""
    for name, source in NAMES.items():
        path = taken / f"{source}.png"
        if not path.exists():
            raise SystemExit(f"{path} is not there: run tests/e2e/test_storefront.py with a Chromium on the PATH first")
        with Image.open(path) as picture:
            content = small(picture)
        (KEPT / f"{name}.webp").write_bytes(content)
        print(f"docs/images/{name}.webp  {len(content):,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TAKEN)
