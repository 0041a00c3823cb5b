"""How a canary is led: which shares of the users, how long each, how much evidence, and how sure an alarm must be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cascade.canary.signals import ALONE, COMPARED, SignalName, Tolerances
from cascade.settings import Settings

ALL = 100.0


@dataclass(frozen=True)
class Policy:
    """See the settings `canary_*`, whose numbers these are; times in seconds, steps in percent of the users.

    false_alarms: chance that a canary which is not worse is aborted, over all signals, steps and looks together
    min_alarm: canary's outcomes of a signal before it may give an alarm; the test itself needs no such bound, but the
        first calls of a process may be slow for reasons of their own
    min_calls: canary's calls before a step can end well; min_users: users on either track who were shown a list,
        asked for at the last step that is compared, since a hundredth of the users may never be that many
    """

    steps: tuple[float, ...] = (1.0, 5.0, 25.0, ALL)
    pause_s: float = 600.0
    look_s: float = 10.0
    limit_s: float = 14_400.0
    at_limit: Literal["abort", "hold"] = "abort"
    false_alarms: float = 0.01
    min_alarm: int = 20
    min_calls: int = 500
    min_users: int = 500
    allowed: Tolerances = field(default_factory=Tolerances)

    @property
    def a_test(self) -> float:
        """What each test of each step may have of the false alarms: their chances add up at most."""
        tests = sum(len(self.signals(percent)) for percent in self.steps)
        return self.false_alarms / max(tests, 1)

    def signals(self, percent: float) -> tuple[SignalName, ...]:
        """Which are judged at a share of the users."""
        return COMPARED if percent < ALL else ALONE

    def after(self, percent: float) -> float | None:
        """The next step; None after the last."""
        return next((step for step in self.steps if step > percent), None)

    def is_last_compared(self, percent: float) -> bool:
        """Whether the next step leaves no stable to compare with."""
        following = self.after(percent)
        return percent < ALL and (following is None or following >= ALL)


def policy_of(settings: Settings) -> Policy:
    """The judge's numbers."""
    return Policy(
        steps=tuple(settings.canary_steps),
        pause_s=settings.canary_pause_s,
        look_s=settings.canary_look_s,
        limit_s=settings.canary_limit_s,
        at_limit=settings.canary_at_limit,
        false_alarms=settings.canary_false_alarms,
        min_alarm=settings.canary_min_alarm,
        min_calls=settings.canary_min_calls,
        min_users=settings.canary_min_users,
        allowed=Tolerances(
            errors=settings.canary_error_tolerance,
            degraded=settings.canary_degraded_tolerance,
            slow=settings.canary_slow_tolerance,
            slow_factor=settings.canary_slow_factor,
            clicks=settings.canary_click_tolerance,
        ),
    )
