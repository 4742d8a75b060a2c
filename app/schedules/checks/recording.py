"""Write results down: the target's standing, the result, the day's sums, and whoever is told, all or nothing.

Two runs may have looked at the same target. The UPDATE of the target asks for the standing that was read; where it
matches no row, somebody else was faster, and what they wrote is read first. So each change of state is told once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.db import Db
from app.errors import NotFound
from app.events import emit
from app.models.states import TargetState
from app.schedules.checks.news import tell
from app.schedules.checks.outcome import LONGEST, Outcome
from app.schedules.checks.standing import Standing, is_told
from app.schedules.checks.store import Target, find_target

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Checked:
    """A target, what its check came to, and when (ms since 1970 UTC)."""

    target: Target
    outcome: Outcome
    at: int


def record(db: Db, results: Sequence[Checked]) -> None:
    """Write down what is still news: nothing of a target that was removed, switched off, or checked later by others."""
    # In one order everywhere, so that two runs never wait for each other in a circle.
    ordered = sorted(results, key=lambda one: one.target.id)
    with db.transaction():
        changed = [change for one in ordered if (change := _record_one(db, one)) is not None]
    for checked, after in changed:
        emit(
            "target changed", target=checked.target.id, user=checked.target.user_id, name=checked.target.wanted.name,
            state=after.state, reason=checked.outcome.error,
        )  # fmt: skip


def _record_one(db: Db, checked: Checked) -> tuple[Checked, Standing] | None:
    """Write one down; its new standing when the state has changed."""
    target = checked.target
    while True:
        after = target.standing.after(ok=checked.outcome.ok, at=checked.at, confirmations=target.wanted.confirmations)
        if _settle(db, target, checked, after):
            break
        try:
            target = find_target(db, target.id)
        except NotFound:
            return None
        if not target.wanted.enabled or (target.last is not None and target.last.at >= checked.at):
            return None
    _keep(db, target.id, checked)
    if target.standing.state is after.state:
        return None
    _note_outage(db, target, checked, after)
    if is_told(target.standing, after):
        tell(db, target, after, checked.outcome, checked.at)
    return checked, after


def _settle(db: Db, target: Target, checked: Checked, after: Standing) -> bool:
    """The fence: the target as it stands after this result, if it stood as we read it."""
    outcome, timing, before = checked.outcome, checked.outcome.timing, target.standing
    matched = db.run(
        "UPDATE targets SET state = ?, failures = ?, failing_since = ?, changed_at = ?, last_at = ?, last_ok = ?, "
        "last_error = ?, last_status_code = ?, last_latency_ms = ?, last_resolve_ms = ?, last_connect_ms = ?, "
        "last_tls_ms = ?, last_first_byte_ms = ?, certificate_until = COALESCE(?, certificate_until) "
        "WHERE id = ? AND enabled = 1 AND state = ? AND failures = ? AND COALESCE(last_at, 0) = ?",
        after.state, after.failures, after.failing_since, after.changed_at, checked.at, int(outcome.ok),
        _short(outcome.error), outcome.status_code, outcome.latency_ms, round(timing.resolve), round(timing.connect),
        round(timing.tls), round(timing.first_byte), outcome.certificate_until,
        target.id, before.state, before.failures, target.last.at if target.last else 0,
    )  # fmt: skip
    return matched == 1


def _keep(db: Db, target_id: int, checked: Checked) -> None:
    """The result, and its part in the sums of its day. The row of the target is ours, so nobody else writes them.

    REPLACE, because a clock that was set back may come by the same millisecond twice.
    """
    outcome = checked.outcome
    db.run(
        "REPLACE INTO check_results (target_id, at, ok, latency_ms, status_code, error) VALUES (?, ?, ?, ?, ?, ?)",
        target_id, checked.at, int(outcome.ok), outcome.latency_ms, outcome.status_code, _short(outcome.error),
    )  # fmt: skip
    day, failed = checked.at // DAY_MS, int(not outcome.ok)
    latency = 0 if failed else outcome.latency_ms
    added = db.run(
        "UPDATE check_days SET checks = checks + 1, failures = failures + ?, latency_sum = latency_sum + ?, "
        "latency_max = CASE WHEN latency_max < ? THEN ? ELSE latency_max END WHERE target_id = ? AND day = ?",
        failed, latency, latency, latency, target_id, day,
    )  # fmt: skip
    if not added:
        db.run(
            "INSERT INTO check_days (target_id, day, checks, failures, latency_sum, latency_max) "
            "VALUES (?, ?, 1, ?, ?, ?)",
            target_id, day, failed, latency, latency,
        )  # fmt: skip


def _note_outage(db: Db, target: Target, checked: Checked, after: Standing) -> None:
    if after.state is TargetState.DOWN:
        db.run(
            "REPLACE INTO target_outages (target_id, began_at, reason) VALUES (?, ?, ?)",
            target.id, after.changed_at, _short(checked.outcome.error),
        )  # fmt: skip
    elif target.standing.state is TargetState.DOWN:
        db.run("UPDATE target_outages SET ended_at = ? WHERE target_id = ? AND ended_at IS NULL", checked.at, target.id)


def _short(error: str | None) -> str | None:
    return error if error is None else error[:LONGEST]
