"""What a user and a webhook are told when a target goes down or comes back."""

from __future__ import annotations

from app.clock import in_utc
from app.db import Db
from app.mail import notices
from app.models.states import TargetState
from app.schedules.checks.outcome import Outcome
from app.schedules.checks.standing import Standing
from app.schedules.checks.store import Target
from app.schedules.checks.target import Wanted


def tell(db: Db, target: Target, after: Standing, outcome: Outcome, at: int) -> None:
    """Write the notices down, in the caller's transaction: a mail to the user, a POST to the target's webhook."""
    subject, body = text(target, after, outcome, at)
    email = db.value("SELECT email FROM users WHERE id = ?", target.user_id)
    if email is not None:
        notices.post(db, kind="mail", target=email, subject=subject, body=body, now=at)
    if target.wanted.webhook is not None:
        notices.post(db, kind="webhook", target=target.wanted.webhook, subject=subject, body=body, now=at)


def text(target: Target, after: Standing, outcome: Outcome, at: int) -> tuple[str, str]:
    """Subject and body."""
    wanted, before = target.wanted, target.standing
    lines = [("what", what(wanted))]
    if after.state is TargetState.DOWN:
        assert after.changed_at is not None
        subject, head = f"DOWN: {wanted.name}", f"{wanted.name} is down."
        times = "once" if after.failures == 1 else f"{after.failures} times in a row"
        lines += [
            ("since", in_utc(after.changed_at)),
            ("reason", outcome.error or ""),
            ("checked", f"{times}, last at {in_utc(at)}; the last check took {outcome.latency_ms} ms"),
        ]
    else:
        subject, head = f"UP: {wanted.name}", f"{wanted.name} is up again."
        began = before.changed_at if before.changed_at is not None else at
        lines += [
            ("since", in_utc(at)),
            ("was down", f"{spell(at - began)}, from {in_utc(began)}"),
            (
                "answer",
                f"in {outcome.latency_ms} ms" + (f", status {outcome.status_code}" if outcome.status_code else ""),
            ),
        ]
    return subject, "\n".join([head, "", *(f"{name + ':':10}{said}" for name, said in lines), ""])


def what(wanted: Wanted) -> str:
    """What is asked of a target, in a line."""
    if wanted.kind == "tcp":
        host = f"[{wanted.host}]" if ":" in (wanted.host or "") else wanted.host
        return f"TCP {host}:{wanted.port}" + (f", which says “{wanted.keyword}”" if wanted.keyword else "")
    said = f"GET {wanted.url}, expected status {wanted.expect_status}"
    said += f", with the text “{wanted.keyword}”" if wanted.keyword else ""
    return said + (f", without the text “{wanted.not_keyword}”" if wanted.not_keyword else "")


def spell(ms: int) -> str:
    """A duration in two units: 45 s, 3 min 20 s, 2 h 5 min, 1 d 3 h."""
    seconds = round(ms / 1000)
    for big, small, names in ((86_400, 3600, ("d", "h")), (3600, 60, ("h", "min")), (60, 1, ("min", "s"))):
        if seconds >= big:
            return f"{seconds // big} {names[0]} {seconds % big // small} {names[1]}"
    return f"{seconds} s"
