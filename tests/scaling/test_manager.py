"""The manager with a real supervisord, real workers and a real Redis: who stays is never restarted, nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.scaling.files import slot_is_on
from app.scaling.history import last_decisions
from tests.scaling.crowd import KILLED_BETWEEN, Crowd, entry
from tests.services import need
from tests.supervised import wait_for

MakeCrowd = Callable[..., Crowd]

QUICK = ("--check-interval", "0.2")
LONG = 40.0


@pytest.fixture
def make_crowd(short_directory: Path) -> Iterator[MakeCrowd]:
    need("redis-server")
    made: list[Crowd] = []

    def make(*queues: str) -> Crowd:
        made.append(Crowd(Path(tempfile.mkdtemp(dir=short_directory)), *queues))
        made[-1].start()
        return made[-1]

    yield make
    for crowd in made:
        crowd.end()


def grown_to(crowd: Crowd, queue: str, count: int) -> dict[str, int]:
    wait_for(lambda: len(crowd.pids(queue)) == count, f"{count} workers of {queue}", LONG)
    return crowd.pids(queue)


def test_workers_follow_the_load_and_those_who_stay_keep_their_pids(make_crowd: MakeCrowd) -> None:
    crowd = make_crowd(entry("work", 2, 9))
    two = crowd.pids("work")
    manager = crowd.begin_manager(*QUICK)

    crowd.put("work", *range(40))
    four = grown_to(crowd, "work", 4)
    crowd.put("work", *range(40, 110))
    nine = grown_to(crowd, "work", 9)
    wait_for(lambda: len(set(crowd.taken().values())) == 9, "all nine have a task in hand", LONG)
    # 80 may end. Of the last 30 each worker has one in hand and 21 wait: work for three.
    crowd.open_gate(80)
    three = grown_to(crowd, "work", 3)
    held = {number for number in crowd.taken() if number >= 80}
    assert len(held) > 3, "those that were asked to leave have a task in hand"
    assert not held & set(crowd.done())
    crowd.open_gate(1000)
    last = grown_to(crowd, "work", 2)
    wait_for(lambda: set(crowd.states("work")) == set(last), "all others are gone", LONG)

    assert two.items() <= four.items() <= nine.items()
    assert two.items() == last.items() <= three.items() <= nine.items()
    wait_for(lambda: len(crowd.done()) == 110, "every task has ended", LONG)
    assert set(crowd.done().values()) == {1}
    records = last_decisions(crowd.db, 1000, "work")
    moves = [(r.workers, r.target) for r in records if r.workers != r.target]
    assert moves[0] == (2, 4)
    assert moves[1][0] == 4
    assert (moves[-1], max(target for _, target in moves)) == ((3, 2), 9)
    for record in records:
        print(record.workers, "→", record.target, record.reason)
        assert f"backlog {record.backlog}" in record.reason
    manager.terminate()
    said = manager.communicate(timeout=20)[0]
    assert manager.returncode == 0
    told = [json.loads(line) for line in said.splitlines()]
    assert [(e["workers"], e["target"]) for e in told if e["event"] == "workers scaled"] == moves


def test_a_second_manager_says_who_holds_it(make_crowd: MakeCrowd) -> None:
    crowd = make_crowd(entry("work", 1, 3))
    manager = crowd.begin_manager(*QUICK)
    lock = crowd.settings.run / "queue-manager.lock"
    wait_for(lambda: lock.exists() and "pid" in lock.read_text(), "it holds the lock", LONG)

    said = crowd.manage("--once", code=1)

    assert f"another manager looks after this home: pid {manager.pid}, since 20" in said
    crowd.put("work", *range(20))
    assert [(d["queue"], d["target"]) for d in crowd.decisions("--dry-run", "--max", "2")] == [("work", 2)]
    manager.kill()
    manager.wait(20)
    assert "work" in crowd.manage("--once")


def test_a_dry_run_changes_nothing(make_crowd: MakeCrowd) -> None:
    crowd = make_crowd(entry("work", 1, 3))
    crowd.put("work", *range(20))

    decided = crowd.decisions("--once", "--dry-run")

    assert [(d["workers"], d["target"]) for d in decided] == [(1, 3)] or decided[0]["target"] == 2
    assert crowd.manage("--dry-run").startswith("work ")
    assert set(crowd.states("work")) == {"work_00"}
    assert not list(crowd.settings.conf_d.glob("*burst*"))
    assert crowd.manage("--history") == "no decisions yet\n"


def test_a_manager_killed_between_writing_and_updating_is_made_up_for(make_crowd: MakeCrowd) -> None:
    crowd = make_crowd(entry("work", 1, 3))
    before = crowd.pids("work")
    crowd.put("work", *range(20))

    crowd.manage("--once", code=-signal.SIGKILL, script=KILLED_BETWEEN)
    assert slot_is_on(crowd.settings, "work-burst-1")
    assert set(crowd.states("work")) == {"work_00"}
    crowd.manage("--once", "--max", "2")
    up = grown_to(crowd, "work", 2)

    assert before.items() <= up.items()
    # The same on the way down: the worker is stopped, its file is written, nobody is told.
    crowd.open_gate(1000)
    wait_for(lambda: len(crowd.done()) == 20, "all is done", LONG)
    crowd.stack.supervisorctl("stop", "work-burst-1:*")
    crowd.manage("--once", code=-signal.SIGKILL, script=KILLED_BETWEEN)
    assert not slot_is_on(crowd.settings, "work-burst-1")
    assert "work-burst-1_00" in crowd.states("work")
    crowd.manage("--once")
    assert crowd.states("work").keys() == before.keys()
    assert crowd.pids("work") == before


def test_supervisord_killed_and_started_again_in_the_middle(make_crowd: MakeCrowd) -> None:
    crowd = make_crowd(entry("work", 1, 4))
    crowd.begin_manager(*QUICK)
    crowd.put("work", *range(60))
    grown_to(crowd, "work", 4)

    os.kill(next(p.pid for p in crowd.stack.found() if p.is_supervisord), signal.SIGKILL)
    crowd.open_gate(1000)
    crowd.stack.run("start")
    wait_for(lambda: set(range(60)) <= set(crowd.done()), "every task has ended", LONG)
    crowd.put("work", *range(2000, 2060))
    grown_to(crowd, "work", 4)
    crowd.open_gate(3000)
    wait_for(lambda: len(crowd.done()) == 120, "every task has ended", LONG)
    grown_to(crowd, "work", 1)

    wait_for(lambda: set(crowd.states("work")) == {"work_00"}, "all others are gone", LONG)
    workers = [p for p in crowd.stack.found() if p.group.startswith("work")]
    assert len(workers) == 1


def test_without_redis_or_database_nobody_is_taken_away(make_crowd: MakeCrowd) -> None:
    crowd = make_crowd(entry("work", 1, 3))
    crowd.put("work", *range(20))
    crowd.manage("--once")
    before = grown_to(crowd, "work", 3)

    crowd.stack.environ["DATABASE_URL"] = "mysql://root@localhost/x?unix_socket=/nowhere/mysql.sock"
    assert "the database does not answer" in crowd.manage("--once", code=1)
    crowd.stack.supervisorctl("stop", "redis:*")
    for _ in range(3):
        said = crowd.manage("--once", "--check-interval", "0.1", code=1)
        assert "Redis does not answer" in said
        assert "what waits is not known: nobody goes" in said

    assert crowd.pids("work") == before


def test_a_worker_that_does_not_end_holds_up_nobody_else(make_crowd: MakeCrowd) -> None:
    crowd = make_crowd(entry("slow", 1, 2), entry("work", 1, 4))
    crowd.put("slow", *range(1000, 1013))
    crowd.begin_manager(*QUICK)
    grown_to(crowd, "slow", 2)
    wait_for(lambda: len(set(crowd.taken().values())) == 2, "both have a task in hand", LONG)

    crowd.redis.delete("dramatiq:slow")
    grown_to(crowd, "slow", 1)
    leaving = [name for name, (state, _) in crowd.states("slow").items() if state == "STOPPING"]
    assert leaving == ["slow-burst-1_00"]
    crowd.put("work", *range(40))
    grown_to(crowd, "work", 4)
    crowd.open_gate(500)
    grown_to(crowd, "work", 1)

    assert [name for name, (state, _) in crowd.states("slow").items() if state == "STOPPING"] == leaving
    assert not [number for number in crowd.done() if number >= 1000]
    crowd.open_gate(2000)
    wait_for(lambda: set(crowd.states("slow")) == {"slow_00"}, "it has gone", LONG)
    assert len([number for number in crowd.done() if number >= 1000]) == 2
