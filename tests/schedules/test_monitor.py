"""The actor in real workers: messages become runs, a killed worker's run is interrupted and nothing runs twice."""

from __future__ import annotations

import signal
import threading

import pytest
import redis

from app.config import Settings
from app.db import Db
from app.models.schedules import ScheduleRun, ScheduleState
from app.queues import keys
from app.queues.broker import redis_client
from app.queues.put_new import put_new
from app.scaling.table import load_table
from app.schedules.claims import LEASE_MS, claim_due
from app.schedules.dispatch import dispatch, put_claims
from app.schedules.times import MINUTE
from tests.checks.site import Site, Visit
from tests.checks.targets import add_http
from tests.schedules.people import add_users, schedule
from tests.working import WorkerProcess, eventually

pytestmark = pytest.mark.slow

STARTED = "Signal handlers registered (SIGTERM, SIGINT, SIGQUIT)"


@pytest.fixture
def client(settings: Settings) -> redis.Redis:
    found = redis_client(settings.redis_url)
    found.flushdb()
    return found


def worker(settings: Settings, *arguments: str, **environ: str) -> WorkerProcess:
    allow = {"ALLOW_PRIVATE_ADDRESSES": "all"}
    return WorkerProcess(settings, "--queues", "monitor", "--sleep", "0.1", *arguments, **allow, **environ)


def statuses(db: Db) -> list[tuple[int, str]]:
    return [(run.user_id, run.status) for run in ScheduleRun.select().order_by(ScheduleRun.user_id, ScheduleRun.id)]


def test_whoever_is_due_is_checked_once_whatever_is_enqueued_besides(
    db: Db, settings: Settings, client: redis.Redis
) -> None:
    users = add_users(db, 30, minutes=60, due=db.now_ms())
    dispatch(db, settings, put_claims(client), db.now_ms())
    for user in users:  # each message a second time, as after a lost answer
        put_new(client, "monitor", "monitor", {f"again-{user}": (user, schedule(user).locked_by)})
    put_new(client, "monitor", "monitor", {"stray": (users[0], "x" * 32)})

    with worker(settings), worker(settings):
        eventually(lambda: len(statuses(db)) == 30, "all have run")
        eventually(lambda: client.hlen(keys.messages("monitor")) == 0, "the queue is empty")

    assert statuses(db) == [(user, "ok") for user in users]
    assert {schedule(user).runs for user in users} == {1}
    assert client.zcard(keys.dead("monitor")) == 0


def test_a_run_whose_worker_was_killed_is_interrupted_and_the_next_period_runs(
    db: Db, settings: Settings, client: redis.Redis
) -> None:
    (user,) = add_users(db, 1, minutes=5, due=db.now_ms())
    asked, closed = threading.Event(), threading.Event()

    def hang(visit: Visit) -> None:
        asked.set()
        closed.wait(60)

    with Site({"/": hang}) as site:
        add_http(db, user, site.url("/"), timeout_seconds=60)
        dispatch(db, settings, put_claims(client), db.now_ms())
        with worker(settings) as first:
            assert asked.wait(60), first.text()
            assert schedule(user).state is ScheduleState.RUNNING
            first.kill()
        later = db.now_ms() + LEASE_MS + 1000
        assert dispatch(db, settings, put_claims(client), later).swept.interrupted == 1
        assert statuses(db) == [(user, "interrupted")]
        closed.set()
        site.pages["/"] = lambda visit: visit.say(200, b"fine")
        assert dispatch(db, settings, put_claims(client), later + 5 * MINUTE).claimed == 1
        with worker(settings):
            eventually(lambda: len(statuses(db)) == 2, "it ran again", 90)

    assert [status for _, status in statuses(db)] == ["interrupted", "ok"]
    assert (schedule(user).runs, schedule(user).interruptions) == (2, 1)


def test_a_stopping_worker_ends_its_run_and_hands_the_rest_back(
    db: Db, settings: Settings, client: redis.Redis
) -> None:
    first, second = add_users(db, 2, minutes=60, due=db.now_ms())
    asked, answer = threading.Event(), threading.Event()

    def slow(visit: Visit) -> None:
        asked.set()
        answer.wait(60)
        visit.say(200, b"fine")

    with Site({"/": slow}) as site:
        add_http(db, first, site.url("/"), timeout_seconds=60)
        claim_due(db, "t" * 32, db.now_ms(), 900_000, 2)
        put_new(client, "monitor", "monitor", {"a": (first, "t" * 32), "b": (second, "t" * 32)})
        with worker(settings, "--threads", "1") as stopping:
            assert asked.wait(60), stopping.text()
            stopping.tell(signal.SIGTERM)
            stopping.wait_for("Worker received shutdown signal")
            answer.set()
            assert stopping.wait(60) == 0

    assert statuses(db) == [(first, "ok")]
    assert schedule(second).state is ScheduleState.QUEUED
    with worker(settings):
        eventually(lambda: len(statuses(db)) == 2, "the other one runs too")


def test_threads_are_those_of_the_flag_then_of_the_environment(settings: Settings, db: Db) -> None:
    with worker(settings, WORKER_CONCURRENCY="3") as by_environment:
        assert by_environment.wait_for(STARTED, 60)["threads"] == 3
    with worker(settings, "--threads", "1", WORKER_CONCURRENCY="3") as by_flag:
        assert by_flag.wait_for(STARTED, 60)["threads"] == 1
    table = settings.table_of()
    assert [load_table(table, threads).queue("monitor").threads for threads in (None, 7)] == [2, 7]  # type: ignore[union-attr]
    assert load_table(table, 7).queue("send") == load_table(table).queue("send")
