"""What is done to workers, Redis, the database and the machine while the campaign is sent."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from typing import TYPE_CHECKING

import pymysql
import redis

from app.campaigns.halting import pause_campaign, resume_campaign, wait_until_quiet
from app.errors import Refused
from app.queues.broker import RedisTrouble, make_broker
from app.queues.tickets import enqueue
from tests.faults.fleet import SCHEDULER
from tests.faults.matrix import Form, Row
from tests.faults.stack import StackFleet

if TYPE_CHECKING:
    from tests.faults.arena import Arena

WORKERS = ("send", "expand")


def at_gap(gap: str, says: str, each: str) -> Row:
    """A row whose workers kill themselves in one gap: about 30 times in 20,000 mails, 5 in a short run."""

    def orders(form: Form) -> dict[str, object]:
        batches = form.recipients / max(10, min(100, form.recipients // 40))
        calls = form.recipients if each == "mail" else batches
        return {"kill": {gap: min(0.2, max(5, form.recipients / 600) / calls)}}

    return Row(f"kill-at-gap:{gap}", f"SIGKILL {says}", orders=orders)


def stop_at_gap(gap: str, says: str) -> Row:
    def orders(form: Form) -> dict[str, object]:
        return {"stop": {gap: max(8, form.recipients / 2000) / form.recipients}}

    return Row(
        f"stop-at-gap:{gap}",
        f"SIGSTOP {says}, continued after four leases, or when the campaign is sent",
        orders=orders,
    )


# -- workers ---------------------------------------------------------------------------------------


def _tell_workers(arena: Arena, number: signal.Signals, *queues: str, between: tuple[float, float]) -> None:
    while arena.wait(random.uniform(*between)) and arena.going():
        if arena.fleet.hit(number, *queues):
            arena.fault(number.name)


def kill_workers(arena: Arena) -> None:
    _tell_workers(arena, signal.SIGKILL, *WORKERS, between=(0.5, 2))


def term_workers(arena: Arena) -> None:
    _tell_workers(arena, signal.SIGTERM, *WORKERS, between=(0.5, 2))


def kill_expanders(arena: Arena) -> None:
    _tell_workers(arena, signal.SIGKILL, "expand", between=(0.3, 1))


def kill_schedulers(arena: Arena) -> None:
    while arena.wait(random.uniform(1, 5)) and arena.going():
        if arena.fleet.hit(signal.SIGKILL, SCHEDULER):
            arena.fault("scheduler killed")


def doubled_schedulers(arena: Arena) -> None:
    """The fault is the second scheduler itself: each full minute that both of them tick."""
    while not arena.over.wait(60 - time.time() % 60):
        arena.fault("minute ticked twice")
        arena.wait(1)


def kill_supervisord(arena: Arena) -> None:
    """Three times: started again when its orphans have gone, at once, and while they are still ending."""
    assert isinstance(arena.fleet, StackFleet)
    for progress, patience in ((0.15, 60.0), (0.4, 0.0), (0.65, 1.5)):
        if not arena.wait_for(progress):
            return
        arena.fault("supervisord killed")
        arena.complaints += arena.fleet.replace_supervisord(patience)


def stop_workers(arena: Arena) -> None:
    while arena.wait(random.uniform(1, 3)) and arena.going():
        if arena.fleet.stop_for(random.choice((2, 4, 6, 15)), "send"):
            arena.fault()


def double_ticks(arena: Arena) -> None:
    broker = make_broker(arena.redis.url)
    while arena.going():
        arena.send_ticks(5)
        for _ in range(5):
            enqueue(broker, "expand", "expand", [arena.campaign_id])
            enqueue(broker, "send", "send")
        arena.fault()
        arena.wait(0.5)
    broker.client.close()


def pause_and_resume(arena: Arena) -> None:
    while arena.wait(random.uniform(1, 3)) and arena.going():
        try:
            pause_campaign(arena.db, arena.campaign_id)
        except Refused:
            return  # the campaign is sent
        arena.fault("paused")
        if random.random() < 0.25 and arena.fleet.hit(signal.SIGKILL, "send"):
            arena.fault("SIGKILL")
        if not wait_until_quiet(arena.db, arena.campaign_id).batches:
            accepted = arena.server.accepted.total()
            arena.wait(random.uniform(0.2, 1))
            if late := arena.server.accepted.total() - accepted:
                arena.complaints.append(f"{late} mails accepted while paused")
        resume_campaign(arena.db, arena.campaign_id, arena.db.now_ms())
    arena.db.close()


# -- database --------------------------------------------------------------------------------------


def database_away(arena: Arena) -> None:
    for progress in (0.2, 0.6):
        if not arena.wait_for(progress):
            return
        if arena.mariadb:
            arena.mariadb.freeze()
            arena.wait(8)
            arena.mariadb.thaw()
        else:
            _hold_the_write_lock(arena, 8)
        arena.fault()


def _hold_the_write_lock(arena: Arena, seconds: float) -> None:
    connection = sqlite3.connect(arena.disk / "mailcrew.db", timeout=30, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    arena.wait(seconds)
    connection.execute("ROLLBACK")
    connection.close()


def restart_database(arena: Arena) -> None:
    assert arena.mariadb
    while arena.wait(3) and arena.going():
        arena.mariadb.end(random.choice((signal.SIGTERM, signal.SIGKILL)))
        arena.wait(1)
        arena.mariadb.start()
        arena.fault()


def kill_connections(arena: Arena) -> None:
    assert arena.mariadb
    while arena.wait(random.uniform(1, 2)) and arena.going():
        try:
            arena.mariadb.kill_connections()
        except pymysql.Error:
            continue
        arena.fault()


# -- Redis -----------------------------------------------------------------------------------------


def restart_redis(arena: Arena) -> None:
    while arena.wait(random.uniform(2, 4)) and arena.going():
        arena.redis.end(random.choice((signal.SIGTERM, signal.SIGKILL)))
        arena.redis.start()
        arena.fault()


def redis_down(arena: Arena) -> None:
    if arena.wait_for(0.3):
        arena.redis.end(signal.SIGKILL)
        arena.wait(30 if not arena.form.is_short else 6)
        arena.redis.start()
        arena.fault()


def flush_redis(arena: Arena) -> None:
    while arena.wait(random.uniform(1, 2)) and arena.going():
        try:
            arena.redis.client.flushall()
        except redis.RedisError:
            continue
        arena.fault()


def freeze_redis(arena: Arena) -> None:
    for progress in (0.2, 0.6):
        if arena.wait_for(progress):
            arena.redis.freeze()
            arena.wait(12 if not arena.form.is_short else 4)
            arena.redis.thaw()
            arena.fault()


# -- machine ---------------------------------------------------------------------------------------


def _jump(arena: Arena, seconds: int) -> None:
    if arena.wait_for(0.3):
        (arena.home / "clock").write_text(str(seconds))
        arena.fault()


def clock_forward(arena: Arena) -> None:
    _jump(arena, 3600)


def clock_back(arena: Arena) -> None:
    _jump(arena, -3600)


def everything(arena: Arena) -> None:
    while arena.wait(random.uniform(0.5, 1.5)) and arena.going():
        chosen = random.choice(("kill", "kill", "term", "stop", "restart", "flush"))
        if chosen in ("kill", "term"):
            arena.fleet.hit(signal.SIGKILL if chosen == "kill" else signal.SIGTERM, *WORKERS)
        elif chosen == "stop":
            arena.fleet.stop_for(random.choice((2, 6)), "send")
        elif chosen == "restart":
            arena.redis.end(signal.SIGKILL)
            arena.redis.start()
        else:
            try:
                arena.redis.client.flushall()
            except RedisTrouble:
                continue
        arena.fault()
