"""The rows of the matrix, by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.faults import disks, harms, misdeeds
from tests.faults.harms import at_gap, stop_at_gap
from tests.faults.matrix import Form, Row


def _workers() -> Iterator[Row]:
    every = "to a random send or expand worker every 0.5–2 s"
    yield Row("kill9-workers", f"SIGKILL {every}", harm=harms.kill_workers)
    yield Row("term-workers", f"SIGTERM {every}", harm=harms.term_workers)
    stopped = "a random send worker stopped (SIGSTOP) for 2–15 s, then continued; a lease is 5 s"
    yield Row("sigstop", stopped, harm=harms.stop_workers)
    yield at_gap("after-250", "between the server's 250 and its record", "mail")
    yield at_gap("after-record", "right after a mail's outcome is in the journal", "mail")
    yield at_gap("before-journal", "between the last check and the journal", "mail")
    yield at_gap("journal-before-content", "between the journal and the content", "mail")
    yield at_gap("composing", "while a mail is being composed", "mail")
    yield at_gap("before-lease", "between the opened slot and the lease", "batch")
    yield at_gap("lease-before-journal", "between the lease's commit and its mails in the journal", "batch")
    yield at_gap("before-commit", "between the last mail of a batch and its outcomes", "batch")
    yield at_gap("commit-before-clear", "between the outcomes' commit and the clearing of the slot", "batch")
    yield stop_at_gap("before-journal", "between the last check and the journal")
    yield stop_at_gap("journal-before-content", "between the journal and the content")
    killed = "SIGKILL to one of two expand workers every 0.3–1 s, and in the gaps of a step"
    yield Row("expander-killed", killed, harm=harms.kill_expanders, expanders=2, orders=_slow_expansion)
    doubled = "five ticks, expansions and spare tickets at once, twice a second; two periodic and two expand workers"
    yield Row("tick-doubled", doubled, harm=harms.double_ticks, tickers=2, expanders=2)
    halted = (
        "paused, and resumed when nothing was in hand any more or after 2 s, every 1–3 s; in one pause in 4, SIGKILL "
        "to a send worker. A mail accepted after a pause with nothing in hand fails the row"
    )
    yield Row("pause-resume", halted, harm=harms.pause_and_resume)


def _supervision() -> Iterator[Row]:
    due = "the campaign is due at the next full minute, and only real schedulers tick"
    killed = f"SIGKILL to the scheduler every 1–5 s; {due}"
    yield Row("scheduler-killed", killed, harm=harms.kill_schedulers, schedulers=1)
    doubled = f"two schedulers and two periodic workers at once; {due}"
    yield Row("scheduler-doubled", doubled, harm=harms.doubled_schedulers, schedulers=2, tickers=2)
    stack = (
        "the stack as shipped; SIGKILL to supervisord at 15, 40 and 65 %, and started again by supervisor-manager: "
        "when its workers have ended by themselves, at once, and while they are ending"
    )
    yield Row("supervisord-killed", stack, harm=harms.kill_supervisord, supervised=True)


def _slow_expansion(_form: Form) -> dict[str, Any]:
    return {"slow_expansion": 0.2, "kill": {"before-expansion-step": 0.1, "after-expansion-step": 0.1}}


def _database() -> Iterator[Row]:
    away = "twice for 8 s, a lease being 5 s: SQLite's write lock held by another, MariaDB stopped (SIGSTOP)"
    yield Row("db-away", away, harm=harms.database_away)
    again = "MariaDB ended by SIGTERM or SIGKILL every 3 s and started again after 1 s"
    yield Row("db-restart", again, harm=harms.restart_database, databases=("mysql",))
    killed = "MariaDB's KILL for every connection, each 1–2 s"
    yield Row("db-connections-killed", killed, harm=harms.kill_connections, databases=("mysql",))
    dead = "error 1213 or 1205 on one write in 10; batches of 25"
    yield Row("deadlocks", dead, orders=lambda _: {"deadlock": 0.1}, environ={"SEND_BATCH_SIZE": "25"})
    lost = (
        "one commit in 10 succeeds and its answer is lost; two mails in 5 are deferred, and tried again at once; "
        "batches of 20"
    )
    patient = {"SEND_BATCH_SIZE": "20", "SEND_MAX_ATTEMPTS": "100"}
    yield Row("db-answers-lost", lost, misdeed=misdeeds.defer_some, orders=_lost_answers, environ=patient)


def _lost_answers(_form: Form) -> dict[str, Any]:
    return {"lose_commit_answer": 0.1, "quick_retries": True}


def _redis() -> Iterator[Row]:
    again = "Redis ended by SIGTERM or SIGKILL and started again, every 2–4 s"
    yield Row("redis-restart", again, harm=harms.restart_redis)
    yield Row("redis-down-30s", "Redis away for 30 s (short form: 6 s)", harm=harms.redis_down)
    yield Row("redis-flushed", "FLUSHALL every 1–2 s", harm=harms.flush_redis)
    frozen = "Redis stopped (SIGSTOP) twice for 12 s; its clients wait 10 s (short form: 4 s)"
    yield Row("redis-frozen", frozen, harm=harms.freeze_redis)


def _smtp() -> Iterator[Row]:
    hangs_up = "the server hangs up"
    yield Row(
        "smtp-drop-before-354", f"{hangs_up} instead of answering MAIL, RCPT or DATA", misdeed=misdeeds.before_354
    )
    yield Row("smtp-drop-in-body", f"{hangs_up} in the middle of a content, 1 %", misdeed=misdeeds.in_body)
    yield Row("smtp-drop-after-dot", f"{hangs_up} after the dot, 1 %; half are accepted", misdeed=misdeeds.after_dot)
    at = "at MAIL, RCPT, DATA or the dot"
    yield Row("smtp-421", f"421 and the end of the session, {at}, 1 %", misdeed=misdeeds.refuse("421", 0.01))
    yield Row("smtp-45x", f"451 or 452 {at}, 2 %", misdeed=misdeeds.refuse("45", 0.02))
    yield Row("smtp-55x", f"550 or 552 {at}, 2 %", misdeed=misdeeds.refuse("55", 0.02))
    silent = "silence at any step, 0.3 %; the timeouts are 2 s"
    yield Row("smtp-never-answers", silent, misdeed=misdeeds.never_answer, orders=lambda _: {"timeouts": 2})
    yield Row("smtp-reads-slowly", "a content read at one byte a second for 10 s, 0.2 %", misdeed=misdeeds.read_slowly)


def _machine() -> Iterator[Row]:
    full = "no room for the journals of most workers; given back at 40 %"
    yield Row("disk-full-journal", full, prepare=disks.journals_disk, harm=disks.grow_journals_disk)
    logs = "no room for the workers' logs from 20 to 60 %; one of them ended by SIGTERM every 3 s meanwhile"
    yield Row("disk-full-logs", logs, prepare=disks.logs_disk, harm=disks.fill_logs)
    data = (
        "no room for the database's files for 10 s, at 5, 25 and 70 %; the lists are expanded slowly meanwhile; "
        "a MariaDB that aborts is started again"
    )
    yield Row(
        "disk-full-database", data, harm=disks.fill_database_disk, disk="400m",
        orders=lambda _: {"slow_expansion": 1.0},
    )  # fmt: skip
    clock = "the wall clock of the workers jumps 1 h"
    yield Row("clock-forward", f"{clock} ahead at 30 %", harm=harms.clock_forward, orders=lambda _: {"clock": True})
    yield Row("clock-back", f"{clock} back at 30 %", harm=harms.clock_back, orders=lambda _: {"clock": True})
    together = "SIGKILL, SIGTERM, SIGSTOP, Redis restarts and flushes, drops and 4xx together"
    yield Row("all-at-once", together, harm=harms.everything, misdeed=misdeeds.everything)


ROWS: dict[str, Row] = {
    row.name: row for kind in (_workers, _supervision, _database, _redis, _smtp, _machine) for row in kind()
}  # fmt: skip
