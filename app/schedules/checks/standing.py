"""What the results of a target's checks add up to: up, down, or not known yet. Values in, values out.

Down takes `confirmations` failures in a row, up takes one success. Told are down, and up after down.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.models.states import TargetState


@dataclass(frozen=True, slots=True)
class Standing:
    """`failures` in a row, the first of them at `failing_since`; in `state` since `changed_at`. Instants in ms.

    Down counts from the first failure, not from the one that confirmed it.
    """

    state: TargetState = TargetState.UNKNOWN
    failures: int = 0
    failing_since: int | None = None
    changed_at: int | None = None

    def after(self, *, ok: bool, at: int, confirmations: int) -> Standing:
        """The standing after one more result."""
        if ok:
            return Standing(TargetState.UP, changed_at=self.changed_at if self.state is TargetState.UP else at)
        since = at if self.failing_since is None else self.failing_since
        failures = self.failures + 1
        if self.state is TargetState.DOWN or failures < confirmations:
            return Standing(self.state, failures, since, self.changed_at)
        return Standing(TargetState.DOWN, failures, since, since)


def is_told(before: Standing, after: Standing) -> bool:
    """Whether somebody is to hear of it. That a new target is up is no news."""
    if before.state is after.state:
        return False
    return after.state is TargetState.DOWN or before.state is TargetState.DOWN
