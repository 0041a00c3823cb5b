"""Health of the service that this container runs, for Docker; Kubernetes asks by itself.

The port is the one of the service's settings. Exit status 0: it answers.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from urllib.request import urlopen


def url_of(service: str) -> str:
    """Where a service's health is asked for."""
    settings = getattr(import_module(f"services.{service}.settings"), f"{service.capitalize()}Settings")()
    return f"http://127.0.0.1:{settings.port}/healthz"


def main() -> int:
    """0 where the service answers; for an image without one, such as orchestration's, there is nothing to ask."""
    service = os.environ.get("CASCADE_SERVICE", "")
    if service in ("", "orchestration"):
        return 0
    try:
        with urlopen(url_of(service), timeout=3) as answer:  # noqa: S310  # nosec B310  (the address is our own)
            return 0 if answer.status == 200 else 1
    except OSError as error:
        print(f"{service} does not answer: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
