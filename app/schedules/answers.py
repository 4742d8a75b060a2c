"""What a dispatch answers, over HTTP and on the command line alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import redis

from app.clock import since_boot
from app.config import Settings
from app.db import Db
from app.errors import Unavailable
from app.schedules.claims import Claim, among
from app.schedules.dispatch import dispatch, put_claims
from app.schedules.document import DispatchDocument, QueueDocument, ResultDocument
from app.schedules.here import run_due, run_user
from app.schedules.running import Check


@dataclass
class Answer:
    """`users`: addresses of whom this call has claimed. `result` only for one user, `results` only in sync mode."""

    mode: str
    users: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    result: ResultDocument | None = None
    results: list[ResultDocument] | None = None
    began: float = field(default_factory=since_boot)

    def document(self, db: Db) -> DispatchDocument:
        """As scripts read it."""
        document: DispatchDocument = {
            "mode": self.mode,
            "dispatched": len(self.users),
            "users": self.users,
            "errors": self.errors,
            "duration_ms": int((since_boot() - self.began) * 1000),
            "queue": queue_state(db),
        }
        if self.result is not None:
            document["result"] = self.result
        if self.results is not None:
            document["results"] = self.results
        return document


def answer_queue(db: Db, settings: Settings, client: redis.Redis) -> Answer:
    """Claim whoever is due and enqueue; raises Unavailable when Redis takes nobody."""
    answer = Answer("queue")

    def tell(claims: Sequence[Claim]) -> None:
        emails = emails_of(db, [claim.user_id for claim in claims])
        answer.users.extend(emails[claim.user_id] for claim in claims)

    answer.errors = dispatch(db, settings, put_claims(client), db.now_ms(), tell).errors
    if answer.errors and not answer.users:
        raise Unavailable(f"{answer.errors[0]}; nobody was enqueued, all stay due. Sync mode runs them without Redis")
    return answer


def answer_direct(db: Db, settings: Settings, said: str | int, check: Check) -> Answer:
    """Run one user here; raises NotFound, Refused."""
    answer = Answer("direct")
    user, ended = run_user(db, settings, said, check)
    answer.users, answer.result = [user.email], ended.document(user.email)
    return answer


def answer_sync(db: Db, settings: Settings, check: Check) -> Answer:
    """Run whoever is due here, without Redis."""
    answer = Answer("sync")
    batch = run_due(db, settings, check)
    emails = emails_of(db, list(batch.ended))
    answer.users, answer.errors = [emails[user_id] for user_id in batch.ended], batch.errors
    answer.results = [ended.document(emails[user_id]) for user_id, ended in batch.ended.items()]
    return answer


def queue_state(db: Db) -> QueueDocument:
    """Users who wait in the queue, and users whose runs are going; from the database, so without Redis too."""
    locked, running = db.row(
        "SELECT COUNT(*), SUM(CASE WHEN started_period = period THEN 1 ELSE 0 END) FROM user_monitor_schedules "
        "WHERE locked_until > 0"
    ) or (0, 0)
    return {"waiting": int(locked) - int(running or 0), "active": int(running or 0)}


def emails_of(db: Db, user_ids: Sequence[int]) -> dict[int, str]:
    """The addresses of these users."""
    if not user_ids:
        return {}
    these, bound = among(db, user_ids)
    rows = db.rows(f"SELECT id, email FROM users WHERE id IN {these}", *bound)
    return {int(id_): str(email) for id_, email in rows}
