from __future__ import annotations

import time

from orchestration.measure import measured


def test_work_and_memory_are_noted_and_waiting_is_no_work() -> None:
    with measured() as waited:
        time.sleep(0.2)
    with measured() as worked:
        block = bytearray(b"\1") * (200 * 2**20)
        until = time.process_time() + 0.3
        while time.process_time() < until:
            block[0] ^= 1
    assert waited.seconds >= 0.2
    assert worked.cpu_seconds >= 0.3
    assert waited.cpu_seconds < worked.cpu_seconds
    assert worked.peak_mb > waited.peak_mb + 150
