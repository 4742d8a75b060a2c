"""Loaded into the workers of a fault run through `bin/worker --modules`: dies in chosen gaps, lies, breaks safeguards.

What to do stands in the variable FAULTS (JSON); the file `calm` in MAILCREW_HOME ends it. The product knows
nothing of this module: everything is wrapped from outside, before the actors are loaded.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peewee

import app.campaigns.expansion as expansion
import app.campaigns.recording as recording
import app.campaigns.retry as retry
import app.campaigns.station as station
import app.campaigns.sweep as sweep
import app.mail.cooldown as cooldown
import app.mail.transport as transport
from app.campaigns.journal import MailState, Slot
from app.db import Db

ORDERS: dict[str, Any] = json.loads(os.environ.get("FAULTS", "{}"))
HOME = Path(os.environ.get("MAILCREW_HOME", "."))
_dice = random.Random(os.getpid() ^ time.time_ns())
_started = time.monotonic()


def hit(probability: float) -> bool:
    """Whether this call is hit; never once the run has been told to calm down, nor right after the start."""
    if _dice.random() >= probability or time.monotonic() - _started < 0.5:
        return False
    return not (HOME / "calm").exists()


def put(owner: Any, name: str, value: Any) -> None:
    """Wrap from outside: modules and classes do not export what they import, nor expect a change.

    Raises AttributeError when there is no such name any more: a fault that changes nothing shows nothing.
    """
    getattr(owner, name)
    setattr(owner, name, value)


def note(kind: str) -> None:
    """Tell the harness that a fault happened, before it happens."""
    with (HOME / "injected").open("a") as file:
        file.write(f"{kind} {time.monotonic()}\n")


def end_here(gap: str) -> None:
    """Die or stop here and now, if the order for this gap says so."""
    if hit(ORDERS.get("kill", {}).get(gap, 0)):
        note(f"kill {gap}")
        os.kill(os.getpid(), signal.SIGKILL)
    if hit(ORDERS.get("stop", {}).get(gap, 0)):
        note(f"stop {gap}")
        os.kill(os.getpid(), signal.SIGSTOP)
        # The signal stops the process at its next return to user mode; give it the time.
        time.sleep(0.01)


def shorten() -> None:
    """Waits that are minutes in life become seconds, so that a row ends."""
    put(cooldown, "TIMING", cooldown.Timing(first_ms=500, longest_ms=1_000, trial_ms=2_000))
    # Of RETRY_MINUTES, which the arena sets.
    put(retry, "MINUTE", 1.0)
    put(expansion, "LEASE_MS", 5_000)
    put(sweep, "EXPANSION_LEASE_MS", 5_000)
    put(expansion, "RETRY_MS", 1_000)
    if "quick_retries" in ORDERS:
        # So quick that a batch is leased again before its outcomes are written for the second time.
        put(retry, "MINUTE", 0.025)
        put(recording, "DATABASE_RETRY_SECONDS", 0.2)
    if "timeouts" in ORDERS:
        seconds = float(ORDERS["timeouts"])
        whole = functools.partial(
            transport.Timeouts, connect=seconds, command=seconds, data=seconds, block=seconds, final=seconds, quit=0.5
        )
        put(transport, "Timeouts", whole)


def wrap_gaps() -> None:
    """The instants at which a crash could lose or repeat a mail."""
    mark, record = Slot.mark, Slot.record

    def marked(self: Slot, index: int, state: MailState) -> None:
        if state is MailState.SENDING:
            end_here("before-journal")
        mark(self, index, state)
        if state is MailState.SENDING:
            end_here("journal-before-content")
        elif state is MailState.COMPOSING:
            end_here("composing")

    def recorded(self: Slot, index: int, state: MailState, *rest: Any) -> None:
        if state is MailState.SENT:
            end_here("after-250")
        record(self, index, state, *rest)
        end_here("after-record")

    put(Slot, "mark", marked)
    put(Slot, "record", recorded)
    for owner, name, before, after in (
        (station, "lease_next", "before-lease", "lease-before-journal"),
        (recording, "write_outcomes", "before-commit", "commit-before-clear"),
        (expansion.Expander, "step", "before-expansion-step", "after-expansion-step"),
    ):
        put(owner, name, around(getattr(owner, name), before, after))


def around(function: Callable[..., Any], before: str, after: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        end_here(before)
        if before == "before-expansion-step":
            time.sleep(float(ORDERS.get("slow_expansion", 0)))
        result = function(*args, **kwargs)
        end_here(after)
        return result

    return wrapper


def wrap_database() -> None:
    """Statements that become a deadlock's victim, and commits whose answer is lost."""
    execute: Any = peewee.Database.execute_sql
    commit: Any = peewee.Database.commit

    def executing(self: peewee.Database, sql: str, *rest: Any, **more: Any) -> Any:
        writes = sql.lstrip()[:6].upper() in ("UPDATE", "INSERT")
        if writes and hit(float(ORDERS.get("deadlock", 0))):
            note("deadlock")
            code, text = _dice.choice([(1213, "Deadlock found when trying to get lock"), (1205, "Lock wait timeout")])
            raise peewee.OperationalError(code, text)
        return execute(self, sql, *rest, **more)

    def committing(self: peewee.Database) -> Any:
        answer = commit(self)
        if hit(float(ORDERS.get("lose_commit_answer", 0))):
            note("answer lost")
            raise peewee.OperationalError(2013, "Lost connection to server during query")
        return answer

    put(peewee.Database, "execute_sql", executing)
    put(peewee.Database, "commit", committing)


def wrap_clock() -> None:
    """A wall clock that is as wrong, in seconds, as the file `clock` says."""
    real_ns, path = time.time_ns, HOME / "clock"
    known: list[float] = [0.0, 0.0]

    def offset() -> float:
        if time.monotonic() > known[0]:
            known[:] = [time.monotonic() + 0.1, float(path.read_text() or 0) if path.exists() else 0.0]
        return known[1]

    def now_ns() -> int:
        return real_ns() + int(offset() * 1e9)

    time.time_ns = now_ns
    time.time = lambda: now_ns() / 1e9


def without(safeguard: str) -> None:
    """Break one safeguard: the run must fail then, or it proves nothing."""
    if safeguard == "journal":
        put(Slot, "mark", lambda *_: None)
        put(Slot, "record", lambda *_: None)
    elif safeguard == "lock":
        put(fcntl, "flock", lambda *_: None)
    elif safeguard == "fence":
        run = Db.run

        def unfenced(self: Db, sql: str, *params: Any) -> int:
            if sql.startswith("UPDATE batches SET state = CASE WHEN pending"):
                fenced, sql = sql, sql.replace("AND token = ? AND state = ?", "AND ? <> '' AND ? <> ''")
                assert sql != fenced, "the fence does not look as it did"
            return run(self, sql, *params)

        put(Db, "run", unfenced)
    elif safeguard == "sweep":
        put(sweep, "_expired", lambda *_: [])
    else:
        raise ValueError(f"no such safeguard: {safeguard}")


shorten()
if "without" in ORDERS:
    without(ORDERS["without"])
wrap_gaps()
if "deadlock" in ORDERS or "lose_commit_answer" in ORDERS:
    wrap_database()
if ORDERS.get("clock"):
    wrap_clock()
