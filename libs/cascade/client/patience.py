"""How long a call may take, and when it is made again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenacity import RetryCallState, retry_if_exception, retry_never, stop_before_delay, wait_random_exponential

from cascade.client.errors import ApiError, GatewayFault, NoAnswer, Overloaded, Unavailable

_BETWEEN = frozenset({502, 504})
"""Answers of a load balancer that found no gateway, or none in time."""
_LEAST_S = 0.001


@dataclass(frozen=True)
class Patience:
    """Limits in seconds.

    timeout_s: for each wait of one try: for a connection, for bytes
    deadline_s: for all tries of a call and the waits between them. A wait that would pass it is not begun: the error is
        raised at once. 0: one try
    first_wait_s, longest_wait_s: bounds of waits where the gateway does not say how long; each is drawn below a bound
        that doubles (exponential back-off with full jitter)
    """

    timeout_s: float = 5.0
    deadline_s: float = 15.0
    first_wait_s: float = 0.1
    longest_wait_s: float = 2.0

    def rules(self, *, repeatable: bool) -> Mapping[str, Any]:
        """What tenacity is to do: sync and async take the same."""
        return {
            "retry": retry_if_exception(worth_another_try) if repeatable else retry_never,
            "stop": stop_before_delay(self.deadline_s),
            "wait": self._wait,
            "reraise": True,
        }

    def time_left(self, begun: float) -> float:
        """For one wait of a try now, of a call that began then (time.monotonic)."""
        left = begun + self.deadline_s - time.monotonic() if self.deadline_s else self.timeout_s
        return max(_LEAST_S, min(self.timeout_s, left))

    def _wait(self, state: RetryCallState) -> float:
        """What the gateway asks for, and a little by chance: those refused together should not return together."""
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after_s if isinstance(error, ApiError) else None
        if asked is None:
            return wait_random_exponential(multiplier=self.first_wait_s, max=self.longest_wait_s)(state)
        return asked + wait_random_exponential(multiplier=self.first_wait_s, max=self.first_wait_s)(state)


def worth_another_try(error: BaseException) -> bool:
    """Whether the same call may fare better: nothing came, it was refused for now, or no gateway was found."""
    if isinstance(error, GatewayFault):
        return error.status in _BETWEEN
    return isinstance(error, (NoAnswer, Overloaded, Unavailable))
