"""The actor that makes a user's checks, and what the minute tick does for schedules. Thin: load, call, done."""

from __future__ import annotations

import dramatiq

from actors.broker import broker
from actors.database import database, put_off
from actors.notices import QUEUE as NOTICES
from app.config import settings
from app.db.connection import DatabaseTrouble
from app.errors import Unavailable
from app.mail.notices import something_due
from app.queues.tickets import top_up
from app.schedules.checks.run import run_checks
from app.schedules.checks.tidying import tidy
from app.schedules.claims import Run, start
from app.schedules.dispatch import QUEUE, dispatch, put_claims
from app.schedules.running import carry_out
from app.workers.stopping import stop_requested
from app.workers.trouble import troubles

#: How long the tick goes on removing old results, in seconds.
TIDY_SECONDS = 5.0
RETRY_SECONDS = 1.0


@dramatiq.actor(queue_name=QUEUE, max_retries=0)
def monitor(user_id: int, token: str) -> None:
    """Make the checks of a claimed user. A message that comes twice, or too late, finds nothing to do."""
    with put_off("checks"):
        run = _start(user_id, token)
        if run is None:
            return
        carry_out(database(), settings(), run, run_checks)
        if something_due(database(), database().now_ms()):
            top_up(broker, NOTICES, "deliver_notices", 1)


def _start(user_id: int, token: str) -> Run | None:
    """Begin the run; with the database away, wait for it: the message would be gone, and the user wait for his lock."""
    while True:
        try:
            return start(database(), user_id, token, database().now_ms())
        except (*DatabaseTrouble, Unavailable) as error:
            troubles.tell("checks", f"the database is in trouble: {error}")
            if stop_requested.wait(RETRY_SECONDS):
                raise
            database().close()


def dispatch_due() -> None:
    """Claim and enqueue whoever is due, and put right what is left over."""
    done = dispatch(database(), settings(), put_claims(broker.client), database().now_ms())
    troubles.tell("schedules", "; ".join(done.errors))


def remove_old_results() -> None:
    """Remove results of checks that have been kept long enough."""
    tidy(database(), database().now_ms(), settings().check_results_days, seconds=TIDY_SECONDS, stop=stop_requested)
