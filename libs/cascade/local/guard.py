"""`python -m cascade.local.guard RUN_ID`: ends every process of a run once its supervisor is gone.

The supervisor holds the other end of this process's standard input. When it dies, even by kill -9, the pipe closes,
and whatever still carries the run's id is ended here, grandchildren in sessions of their own included.
"""

from __future__ import annotations

import signal
import sys

from cascade.local.processes import end, of_run

_GRACE_S = 5.0


def main(run_id: str) -> int:
    """Wait for the supervisor's end, then sweep until nothing of the run is left."""
    # The supervisor alone decides when the run is over: a signal to the whole group does not.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while sys.stdin.buffer.read(1024):
        pass
    for _ in range(3):  # a process may be born while its parent is being ended
        left = of_run(run_id)
        if not left:
            return 0
        end(left, _GRACE_S)
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
