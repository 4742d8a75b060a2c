"""One manager and what happens around it: a second one, its death, its sources away, a boost, other hosts, locks."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from app.models.tables import Server, bind
from app.queues.workers import KEY, WorkerStatus
from app.scaling.ceilings import RESERVE_MB
from app.scaling.files import slot_is_on
from app.scaling.history import last_decisions
from tests.scaling.crowd import KILLED_BETWEEN, LITTLE_MEMORY, Crowd, Shared, entry
from tests.sending import add_list, add_people, draft, start
from tests.supervised import queue
from tests.working import eventually

pytestmark = pytest.mark.slow

QUICK = ("--check-interval", "0.2")
LONG = 40.0


@pytest.fixture(scope="module")
def shared(short_directory: Path) -> Iterator[Shared]:
    queues = (
        entry("work", 1, 3),
        queue("send", 1, "max = 3\nmemory = 64"),
        queue("expand", 1, "max = 2\nmemory = 64\nown_limits = true"),
        queue("later", 1, "max = 3\nmemory = 64\ntasks_per_worker = 10\nown_limits = true\npriority = 300"),
    )
    shared = Shared(short_directory, *queues, sleeping=True)
    yield shared
    shared.end()


@pytest.fixture
def crowd(shared: Shared) -> Iterator[Crowd]:
    yield from shared.lend()


def grown_to(crowd: Crowd, queue: str, count: int) -> dict[str, int]:
    eventually(lambda: len(crowd.pids(queue)) == count, f"{count} workers of {queue}", LONG)
    return crowd.pids(queue)


def decided(crowd: Crowd, name: str, *arguments: str) -> dict[str, Any]:
    (one,) = [one for one in crowd.decisions(*arguments) if one["queue"] == name]
    return one


def empty(crowd: Crowd, queue: str) -> None:
    crowd.redis.delete(f"dramatiq:{queue}", f"dramatiq:{queue}.msgs")


def test_a_second_manager_says_who_holds_it(crowd: Crowd) -> None:
    manager = crowd.begin_manager(*QUICK)
    lock = crowd.settings.run / "queue-manager.lock"
    eventually(lambda: lock.exists() and str(manager.pid) in lock.read_text(), "it holds the lock", LONG)

    said = crowd.manage("--once", code=1)

    assert f"another manager looks after this home: pid {manager.pid}, since 20" in said
    assert decided(crowd, "work", "--dry-run")["target"] == 1
    manager.kill()
    manager.wait(20)
    assert "work" in crowd.manage("--once")


def test_a_dry_run_changes_nothing(crowd: Crowd) -> None:
    crowd.put("work", *range(20))

    one = decided(crowd, "work", "--once", "--dry-run")

    assert (one["workers"], one["target"], one["bound_by"]) == (1, 3, None)
    assert set(crowd.states("work")) == {"work_00"}
    assert not list(crowd.settings.conf_d.glob("*burst*"))
    assert crowd.manage("--history") == "no decisions yet\n"


def test_the_command_line_is_for_queues_that_may_grow_and_have_no_limits_of_their_own(crowd: Crowd) -> None:
    crowd.put("work", *range(2000))
    crowd.put("expand", *range(2000))

    more = {one["queue"]: one for one in crowd.decisions("--dry-run", "--max", "9", "--min", "4")}

    assert {name: (one["limits"]["floor"], one["limits"]["max"]) for name, one in more.items()} == {
        "work": (4, 9), "send": (4, 9), "expand": (1, 2), "later": (1, 3),
    }  # fmt: skip
    assert (more["work"]["target"], more["expand"]["target"]) == (9, 2)
    tasks = {one["queue"]: one["limits"] for one in crowd.decisions("--dry-run", "--jobs-per-worker", "7")}
    assert {name: limits["tasks_per_worker"] for name, limits in tasks.items()} == {
        "work": 7, "send": 7, "expand": 100, "later": 10,
    }  # fmt: skip
    assert {limits["target_seconds"] for limits in tasks.values()} == {600}


def test_a_limit_of_an_smtp_server_is_named_and_no_worker_comes_against_it(crowd: Crowd) -> None:
    bind(crowd.db)
    Server.create(name="ses-1", host="127.0.0.1", port=25, tls="none", created_at=1, per_second=10)
    add_list(crowd.db, "all", add_people(crowd.db, 1))
    campaign = draft(crowd.db, ["all"])
    start(crowd.db, campaign)
    try:
        crowd.db.run(
            "INSERT INTO batches (campaign_id, number, state, ready_at, pending) VALUES (?, 1, 'ready', 0, 50000)",
            campaign,
        )
        assert decided(crowd, "send", "--once", "--dry-run")["target"] == 3
        now = crowd.db.now_ms()
        held = "UPDATE campaigns SET held_until = ?, held_by = 'second limit of server ses-1'"
        crowd.db.run(held, now + 500)
        limited = decided(crowd, "send", "--once", "--dry-run")
        assert (limited["target"], limited["bound_by"]) == (1, "SMTP limit (second limit of server ses-1)")
        assert "SMTP limit (second limit of server ses-1) 1 binds" in limited["reason"]
        # Held for long, it asks for nobody.
        crowd.db.run(held, now + 3_600_000)
        assert decided(crowd, "send", "--once", "--dry-run")["demand"]["backlog"] == 0
    finally:
        for table in ("campaigns", "batches", "servers", "lists", "memberships", "subscribers", "expansions"):
            crowd.db.run(f"DELETE FROM {table}")


def test_a_manager_killed_between_writing_and_updating_is_made_up_for(crowd: Crowd) -> None:
    before = crowd.pids("work")
    crowd.put("work", *range(20))

    crowd.manage("--once", code=-signal.SIGKILL, script=KILLED_BETWEEN)
    assert slot_is_on(crowd.settings, "work-burst-1")
    assert set(crowd.states("work")) == {"work_00"}
    crowd.manage("--once")
    up = grown_to(crowd, "work", 3)

    assert before.items() <= up.items()
    # The same on the way down: the worker is stopped, its file is written, nobody is told.
    empty(crowd, "work")
    crowd.stack.supervisorctl("stop", "work-burst-1:*")
    crowd.manage("--once", code=-signal.SIGKILL, script=KILLED_BETWEEN)
    assert not slot_is_on(crowd.settings, "work-burst-1")
    assert "work-burst-1_00" in crowd.states("work")
    crowd.manage("--once")
    assert set(crowd.states("work")) == {"work_00", "work-burst-2_00"}
    assert crowd.pids("work").items() <= up.items()


def test_without_redis_or_database_nobody_is_taken_away(crowd: Crowd) -> None:
    crowd.put("work", *range(20))
    crowd.manage("--once")
    before = grown_to(crowd, "work", 3)

    try:
        crowd.stack.environ["DATABASE_URL"] = "mysql://root@localhost/x?unix_socket=/nowhere/mysql.sock"
        assert "the database does not answer" in crowd.manage("--once", code=1)
        crowd.stack.supervisorctl("stop", "redis:*")
        for _ in range(3):
            said = crowd.manage("--once", "--check-interval", "0.1", code=1)
            assert "Redis does not answer" in said
            assert "what waits is not known: nobody goes" in said
    finally:
        del crowd.stack.environ["DATABASE_URL"]
        crowd.stack.supervisorctl("start", "redis:*")
        eventually(lambda: crowd.redis_answers, "Redis is back", LONG)

    assert crowd.pids("work") == before


def test_an_update_that_fails_is_reported_and_tried_again_until_it_succeeds(crowd: Crowd) -> None:
    before = crowd.pids("work")
    # A file that somebody else has put there; supervisord reads all of them or none.
    broken = crowd.settings.conf_d / "of-somebody-else.conf"
    broken.write_text("[program:x]\nnumprocs=many\n")
    manager = crowd.begin_manager(*QUICK, "--max", "2")

    crowd.put("work", *range(20))
    eventually(lambda: bool(last_decisions(crowd.db, 1000, "work")), "it has decided", LONG)
    assert slot_is_on(crowd.settings, "work-burst-1")
    assert crowd.pids("work") == before
    broken.unlink()
    up = grown_to(crowd, "work", 2)

    assert before.items() <= up.items()
    assert manager.stdout
    goes_on = next(line for line in manager.stdout if "scaling goes on" in line)
    manager.terminate()
    _, err = manager.communicate(timeout=20)
    about = [one for one in map(json.loads, [*err.splitlines(), goes_on]) if one.get("about")]
    assert [(one["event"], one["about"]) for one in about] == [
        ("scaling is held up", "work-burst-1"),
        ("scaling goes on", "work-burst-1"),
    ]
    assert about[0]["reason"].startswith("the files cannot be read: supervisord refused: ")


def test_a_lack_of_memory_takes_from_the_least_important_first(crowd: Crowd) -> None:
    base = crowd.stack.pids()
    for name in ("work", "later"):
        crowd.put(name, *range(30))
    crowd.manage("--once")
    grown_to(crowd, "work", 3)
    grown_to(crowd, "later", 3)

    # Each worker is promised 64 MB; so much less is free than that and the reserve.
    for lack, work, later in ((60, 3, 3), (150, 3, 1), (130, 1, 1), (9000, 1, 1)):
        free = RESERVE_MB + 64 * len([*crowd.pids("work"), *crowd.pids("later"), "send", "expand"]) - lack
        (crowd.stack.root / "meminfo").write_text(f"MemAvailable: {round(free * 1000 / 1.024)} kB\n")
        crowd.manage("--once", script=LITTLE_MEMORY)
        assert (len(crowd.pids("work")), len(crowd.pids("later"))) == (work, later), f"{lack} MB too little"

    assert base.items() <= crowd.stack.pids().items()
    (last,) = [r for r in last_decisions(crowd.db, 1000, "work") if r.target < r.workers]
    assert (last.workers, last.target, last.bound_by) == (3, 1, "memory")
    assert last.reason.endswith("down from 3, memory 1 binds")


def heartbeat(crowd: Crowd, pid: int, name: str, host: str) -> None:
    status = WorkerStatus(
        pid=pid, host=host, program=f"{name}_{pid}", queues=[name], threads=1, campaign_id=None, is_processing=True,
        processed_count=9, rate_per_second=1.0, rss_mb=80.0, uptime=500.0,
        beat_at=crowd.redis.time()[0],
    )  # fmt: skip
    crowd.redis.hset(KEY, f"{host}:{pid}", json.dumps(asdict(status)))


def test_workers_on_other_hosts_are_counted_and_left_to_their_own_manager(crowd: Crowd) -> None:
    crowd.put("work", *range(25))

    for pid in (1, 2):
        heartbeat(crowd, pid, "work", "elsewhere")
    one = decided(crowd, "work", "--once")
    assert (one["workers"], one["target"]) == (1, 1), "three there are, and work for three"
    assert (one["limits"]["floor"], one["limits"]["max"], one["demand"]["busy"]) == (3, 3, 2)
    assert set(crowd.states("work")) == {"work_00"}

    crowd.put("work", *range(25, 60))
    heartbeat(crowd, 1, "work", socket.gethostname())
    heartbeat(crowd, 1, "work", "elsewhere")
    crowd.redis.hdel(KEY, "elsewhere:2")
    assert decided(crowd, "work", "--once")["target"] == 2, "the table's max is for all hosts together"
    assert len(grown_to(crowd, "work", 2)) == 2


@pytest.fixture
def campaign(crowd: Crowd) -> Iterator[int]:
    """One that is sending, with nothing to do for the workers of all."""
    bind(crowd.db)
    Server.create(name="one", host="127.0.0.1", port=25, tls="none", created_at=1)
    add_list(crowd.db, "all", add_people(crowd.db, 3))
    id_ = draft(crowd.db, ["all"])
    start(crowd.db, id_)
    yield id_
    for table in ("campaign_servers", "campaign_lists", "campaigns", "servers", "memberships", "lists", "subscribers"):
        crowd.db.run(f"DELETE FROM {table}")


def want(crowd: Crowd, campaign: int, workers: int, status: str = "sending") -> None:
    crowd.db.run("UPDATE campaigns SET boost = ?, status = ? WHERE id = ?", workers, status, campaign)


def boosted(crowd: Crowd, campaign: int, count: int) -> dict[str, int]:
    eventually(lambda: len(of_campaign(crowd, campaign)) == count, f"{count} of its own", LONG)
    return of_campaign(crowd, campaign)


def of_campaign(crowd: Crowd, campaign: int) -> dict[str, int]:
    return {name: pid for name, pid in crowd.stack.pids().items() if name.startswith(f"campaign_{campaign}-")}


def test_a_boost_in_the_database_is_brought_about_and_ended_by_the_manager(crowd: Crowd, campaign: int) -> None:
    manager = crowd.begin_manager(*QUICK)
    base = crowd.pids("send")

    want(crowd, campaign, 2)
    two = boosted(crowd, campaign, 2)
    want(crowd, campaign, 3)
    three = boosted(crowd, campaign, 3)
    want(crowd, campaign, 3, "paused")
    boosted(crowd, campaign, 0)
    want(crowd, campaign, 1)
    boosted(crowd, campaign, 1)
    want(crowd, campaign, 1, "sent")
    boosted(crowd, campaign, 0)

    assert {name.split("_")[1] for name in two} == {f"{campaign}-1", f"{campaign}-2"}
    assert two.items() <= three.items()
    assert crowd.pids("send") == base
    eventually(lambda: not list(crowd.settings.conf_d.glob("campaign_*")), "nothing of it is left", LONG)
    # Killed and started anew it does as before: all it knows of a boost stands in the database.
    want(crowd, campaign, 2)
    manager.kill()
    crowd.begin_manager(*QUICK)
    boosted(crowd, campaign, 2)
    moves = [(r.workers, r.target) for r in last_decisions(crowd.db, 1000, f"campaign_{campaign}")]
    assert [move for move in moves if move[0] != move[1]][:3] == [(0, 2), (2, 3), (3, 0)]


def test_while_sqlite_is_locked_for_writing_it_goes_on_and_writes_down_later(crowd: Crowd) -> None:
    crowd.begin_manager(*QUICK)
    with closing(sqlite3.connect(crowd.settings.home / "mailcrew.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        crowd.put("work", *range(20))
        up = grown_to(crowd, "work", 3)
        assert not [r for r in last_decisions(crowd.db, 1000, "work") if r.workers != r.target]
        other.execute("ROLLBACK")

    def changes() -> list[tuple[int, int]]:
        return [(r.workers, r.target) for r in last_decisions(crowd.db, 1000, "work") if r.workers != r.target]

    eventually(lambda: bool(changes()), "the decision of then is written down", LONG)
    assert changes() == [(1, 3)]
    assert crowd.pids("work") == up


def test_while_sqlite_cannot_be_read_everybody_stays(crowd: Crowd, campaign: int) -> None:
    want(crowd, campaign, 2)
    crowd.manage("--once")
    own = boosted(crowd, campaign, 2)
    base = crowd.pids("send")

    crowd.db.close()
    with closing(sqlite3.connect(crowd.settings.home / "mailcrew.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        said = crowd.manage("--once", code=1)
        other.execute("ROLLBACK")

    assert "the database does not answer: database is locked" in said
    assert "the decisions cannot be stored" in said
    assert of_campaign(crowd, campaign) == own
    assert crowd.pids("send") == base
    assert "boosted to 2" in crowd.manage("--once")
