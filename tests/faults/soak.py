"""One long campaign with a fault of a random kind every few seconds, on everything at once."""

from __future__ import annotations

import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable

import pymysql
import redis

from tests.faults import misdeeds
from tests.faults.arena import Arena
from tests.faults.matrix import Form, Row
from tests.faults.server import CountingServer
from tests.smtp_faults import Event, Fault

SOAK = "soak"
SAY_EVERY = 30.0
#: Seconds between two faults, at random.
BETWEEN = (1.0, 4.0)
WORKERS = ("send", "expand")
#: For two seconds the server does one of these to so many of its steps.
MISDEEDS: dict[str, Callable[[Event], Fault | None]] = {
    "SMTP drop before 354": misdeeds.before_354,
    "SMTP drop in the content": misdeeds.in_body,
    "SMTP drop after the dot": misdeeds.after_dot,
    "SMTP 421": misdeeds.refuse("421", 0.01),
    "SMTP 45x": misdeeds.refuse("45", 0.02),
    "SMTP slow reading": misdeeds.read_slowly,
}


def soak_form(database: str, recipients: int, minutes: float) -> Form:
    """Faults for so many minutes, and the same time again to recover at most."""
    seconds = minutes * 60
    return Form(database, recipients, seconds, seconds * 2 + 300, faults_for=seconds)


def soak_row() -> Row:
    soak = Soak()
    says = "a fault of a random kind every 1–4 s"
    return Row(SOAK, says, harm=soak.harm, misdeed=soak.misdeed, orders=lambda _: {"clock": True}, calm_at=0.99)


class Soak:
    """The faults of one run, and what it tells meanwhile."""

    def __init__(self) -> None:
        self._misdeed, self._misdeed_until = "", 0.0

    def misdeed(self, event: Event) -> Fault | None:
        return MISDEEDS[self._misdeed](event) if time.monotonic() < self._misdeed_until else None

    def harm(self, arena: Arena) -> None:
        began = said = time.monotonic()
        answered = 0.0
        while arena.wait(random.uniform(*BETWEEN)):
            if arena.going():
                self._one(arena)
            now = time.monotonic()
            if now - said >= SAY_EVERY:
                rate = (arena.progress - answered) * arena.form.recipients / (now - said)
                _say(arena, rate, now - began)
                _keep_pace(arena.server, arena, rate, began + arena.form.seconds - now)
                said, answered = now, arena.progress

    def _one(self, arena: Arena) -> None:
        kinds: dict[str, Callable[[Arena], object]] = {
            "kill -9": lambda a: a.fleet.hit(signal.SIGKILL, *WORKERS),
            "TERM": lambda a: a.fleet.hit(signal.SIGTERM, *WORKERS),
            "SIGSTOP": lambda a: a.fleet.stop_for(random.choice((2, 6, 15)), "send"),
            "Redis restarted": _restart_redis,
            "Redis flushed": lambda a: a.redis.client.flushall(),
            "Redis frozen": _freeze_redis,
            "wall clock moved": _move_clock,
            "ticks doubled": lambda a: a.send_ticks(5),
            **dict.fromkeys(MISDEEDS, lambda _: True),
        }
        if arena.mariadb:
            kinds |= {
                "MariaDB restarted": _restart_mariadb,
                "MariaDB frozen": _freeze_mariadb,
                "MariaDB's connections killed": _kill_connections,
            }
        else:
            kinds |= {"SQLite locked": _lock_sqlite}
        kind = random.choice([*kinds, "kill -9", "kill -9", "TERM", "SIGSTOP"])
        if kind in MISDEEDS:
            # Each of them counts by itself, as it happens.
            self._misdeed, self._misdeed_until = kind, time.monotonic() + 2
            return
        try:
            happened = kinds[kind](arena)
        except (redis.RedisError, pymysql.Error, sqlite3.Error):
            return  # two at once: the victim of this one was away already
        if happened is not None:
            arena.fault(kind)


def _restart_redis(arena: Arena) -> bool:
    arena.redis.end(random.choice((signal.SIGTERM, signal.SIGKILL)))
    arena.wait(random.uniform(0, 3))
    arena.redis.start()
    return True


def _freeze_redis(arena: Arena) -> bool:
    arena.redis.freeze()
    arena.wait(random.uniform(1, 12))
    arena.redis.thaw()
    return True


def _move_clock(arena: Arena) -> bool:
    """By seconds, not hours: a deferred mail rightly waits as long as a clock says that has gone back."""
    (arena.home / "clock").write_text(str(random.randint(-20, 20)))
    return True


def _restart_mariadb(arena: Arena) -> bool:
    assert arena.mariadb
    arena.mariadb.end(random.choice((signal.SIGTERM, signal.SIGKILL)))
    arena.wait(random.uniform(0, 3))
    arena.mariadb.start()
    return True


def _freeze_mariadb(arena: Arena) -> bool:
    assert arena.mariadb
    arena.mariadb.freeze()
    arena.wait(random.uniform(1, 8))
    arena.mariadb.thaw()
    return True


def _kill_connections(arena: Arena) -> int:
    assert arena.mariadb
    return arena.mariadb.kill_connections()


def _lock_sqlite(arena: Arena) -> bool:
    connection = sqlite3.connect(arena.disk / "mailcrew.db", timeout=30, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        arena.wait(random.uniform(1, 8))
        connection.execute("ROLLBACK")
    finally:
        connection.close()
    return True


def _keep_pace(server: CountingServer, arena: Arena, rate: float, left: float) -> None:
    """Make the server as fast as it takes to be busy until the time is over, whatever the faults cost."""
    wanted = (1 - arena.progress) * arena.form.recipients / max(left, SAY_EVERY)
    if rate > 0 and wanted > 0:
        server.pace = min(5.0, max(0.0005, server.pace * min(1.5, max(0.67, rate / wanted))))


def _say(arena: Arena, rate: float, seconds: float) -> None:
    answered = len(arena.server.accepted) + len(arena.server.refused)
    eta = f"{(arena.form.recipients - answered) / rate:.0f} s" if rate > 0 else "unknown"
    line = (
        f"{arena.form.database:7} {seconds:6.0f} s: {answered:,} of {arena.form.recipients:,} answered, {rate:.0f}/s, "
        f"{arena.faults} faults and {arena.fleet.killed} workers dead of -9 so far, ETA {eta}"
    )
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
