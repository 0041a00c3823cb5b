"""Load on a gateway from a process of its own: wrk, with varied users of whom 5 % are unknown.

wrk comes with most systems' packages (`apt-get install wrk`).
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

UNKNOWN_SHARE = 0.05
VARIED = 2_000
SEED = 7

# The requests are made beforehand, so that the load generator spends little.
_SCRIPT = """
local bodies = {BODIES}
local headers = {["content-type"] = "application/json"}
local at = 0
request = function()
  at = at % #bodies + 1
  return wrk.format("POST", "PATH", headers, bodies[at])
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests": %d, "seconds": %f, "mean": %f, "p50": %f, "p95": %f, "p99": %f, ' ..
    '"max": %f, "refused": %d, "broken": %d}\\n', summary.requests, summary.duration / 1e6, latency.mean / 1000,
    latency:percentile(50) / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000, latency.max / 1000,
    e.status, e.connect + e.read + e.write + e.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What the load generator saw. Latencies in milliseconds.

    refused: answers of a status of 400 or more; broken: calls without an answer; cpu_s: wrk's own processor seconds
    """

    concurrency: int
    requests: int
    seconds: float
    mean: float
    p50: float
    p95: float
    p99: float
    max: float
    refused: int
    broken: int
    cpu_s: float

    @property
    def per_second(self) -> float:
        """Answers a second, refusals included."""
        return self.requests / self.seconds


class Requests:
    """Recommendation requests of many users, as a wrk script."""

    def __init__(self, users: Sequence[str], folder: Path) -> None:
        rng = random.Random(SEED)  # noqa: S311  (which users ask is no secret)
        bodies = []
        for number in range(VARIED):
            user = f"nobody-{number}" if rng.random() < UNKNOWN_SHARE else rng.choice(users)
            body = {"user_id": user, "k": 10, "device_type": rng.choice(("mobile", "desktop", "tablet"))}
            bodies.append(json.dumps(body))
        self._script = folder / "requests.lua"
        quoted = ", ".join(f"[==[{body}]==]" for body in bodies)
        self._script.write_text(_SCRIPT.replace("BODIES", quoted).replace("PATH", "/v1/recommendations"))

    def load(self, url: str, concurrency: int, seconds: float) -> Load:
        """Keep so many requests in flight for so long."""
        wrk = shutil.which("wrk")
        if wrk is None:
            raise SystemExit("the load generator wrk is not installed; `apt-get install wrk`, or your system's like")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [wrk, "-t1", f"-c{concurrency}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(self._script), url],
            capture_output=True,
            text=True,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Load(concurrency, cpu_s=spent, **json.loads(line.removeprefix("RESULT ")))


def requests_of(users: Sequence[str]) -> Requests:
    """The script, in a folder of its own that the system cleans up."""
    return Requests(users, Path(tempfile.mkdtemp(prefix="cascade-bench-")))
