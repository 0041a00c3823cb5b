"""Tell the services of the local run that an alias has moved, so that they need not find it out by looking."""

from __future__ import annotations

import json
from dataclasses import dataclass

from cascade.local.parts import GATEWAY
from cascade.local.probes import post
from cascade.local.state import RunFolder
from cascade.local.system import run_folder
from cascade.settings import Settings

_TIMEOUT_S = 60.0
_PATH = "/internal/refresh"


@dataclass(frozen=True)
class Told:
    """What a service said when it was told to look.

    version: what it serves now; None where it gave no answer or holds no bundle
    problem: why it does not serve what the alias names; None where it does
    """

    service: str
    version: str | None
    problem: str | None = None


def tell(settings: Settings, service: str) -> Told | None:
    """Make `service` look at its alias, and wait until it has; None where no local run can be told."""
    folder = run_folder(settings)
    address, token = _address(folder, service), folder.token()
    if address is None or token is None:
        return None
    try:
        answer = json.loads(post(address + _PATH, {"authorization": f"Bearer {token}"}, _TIMEOUT_S))
        found = answer["bundles"][service]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Told(service, None, f"it gave no answer ({error or type(error).__name__})")
    return Told(service, found["version"], found["refused"])


def _address(folder: RunFolder, service: str) -> str | None:
    """Where the service listens, if it runs; with all services in one process that is the gateway's address."""
    status = folder.read()
    if status is None or not folder.is_held():
        return None
    parts = {part.name: part for part in status.parts}
    part = parts.get(service) or parts.get(GATEWAY)
    return part.address if part is not None and part.state == "running" else None
