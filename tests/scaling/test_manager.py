"""The manager with a real supervisord, real workers and a real Redis: who stays is never restarted, nothing is lost."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.scaling.history import last_decisions
from tests.scaling.crowd import Crowd, Shared, entry
from tests.working import eventually

pytestmark = pytest.mark.slow

QUICK = ("--check-interval", "0.2")
LONG = 40.0


@pytest.fixture(scope="module")
def shared(short_directory: Path) -> Iterator[Shared]:
    shared = Shared(short_directory, entry("work", 2, 9), entry("slow", 1, 2))
    yield shared
    shared.end()


@pytest.fixture
def crowd(shared: Shared) -> Iterator[Crowd]:
    yield from shared.lend()


def grown_to(crowd: Crowd, queue: str, count: int) -> dict[str, int]:
    eventually(lambda: len(crowd.pids(queue)) == count, f"{count} workers of {queue}", LONG)
    return crowd.pids(queue)


def test_workers_follow_the_load_and_those_who_stay_keep_their_pids(crowd: Crowd) -> None:
    two = crowd.pids("work")
    manager = crowd.begin_manager(*QUICK)

    crowd.put("work", *range(40))
    four = grown_to(crowd, "work", 4)
    crowd.put("work", *range(40, 110))
    nine = grown_to(crowd, "work", 9)
    eventually(lambda: len(set(crowd.taken().values())) == 9, "all nine have a task in hand", LONG)
    # 80 may end. Of the last 30 each worker has one in hand and 21 wait: work for three.
    crowd.open_gate(80)
    three = grown_to(crowd, "work", 3)
    held = {number for number in crowd.taken() if number >= 80}
    assert len(held) > 3, "those that were asked to leave have a task in hand"
    assert not held & set(crowd.done())
    crowd.open_gate(1000)
    last = grown_to(crowd, "work", 2)
    eventually(lambda: set(crowd.states("work")) == set(last), "all others are gone", LONG)

    assert two.items() <= four.items() <= nine.items()
    assert two.items() == last.items() <= three.items() <= nine.items()
    eventually(lambda: len(crowd.done()) == 110, "every task has ended", LONG)
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


def test_supervisord_killed_and_started_again_in_the_middle(crowd: Crowd) -> None:
    crowd.begin_manager(*QUICK)
    crowd.put("work", *range(40))
    grown_to(crowd, "work", 4)

    os.kill(next(p.pid for p in crowd.stack.found() if p.is_supervisord), signal.SIGKILL)
    crowd.open_gate(1000)
    crowd.stack.run("start")
    eventually(lambda: set(range(40)) <= set(crowd.done()), "every task has ended", LONG)
    crowd.put("work", *range(2000, 2040))
    grown_to(crowd, "work", 4)
    crowd.open_gate(3000)
    eventually(lambda: len(crowd.done()) == 80, "every task has ended", LONG)
    grown_to(crowd, "work", 2)

    eventually(lambda: set(crowd.states("work")) == {"work_00", "work_01"}, "all others are gone", LONG)
    assert len([p for p in crowd.stack.found() if p.group.startswith("work")]) == 2


def test_a_worker_that_does_not_end_holds_up_nobody_else(crowd: Crowd) -> None:
    crowd.put("slow", *range(1000, 1013))
    crowd.begin_manager(*QUICK)
    grown_to(crowd, "slow", 2)
    eventually(lambda: len(set(crowd.taken().values())) == 2, "both have a task in hand", LONG)

    crowd.redis.delete("dramatiq:slow")
    grown_to(crowd, "slow", 1)
    leaving = [name for name, (state, _) in crowd.states("slow").items() if state == "STOPPING"]
    assert leaving == ["slow-burst-1_00"]
    crowd.put("work", *range(40))
    grown_to(crowd, "work", 4)
    crowd.open_gate(500)
    grown_to(crowd, "work", 2)

    assert [name for name, (state, _) in crowd.states("slow").items() if state == "STOPPING"] == leaving
    assert not [number for number in crowd.done() if number >= 1000]
    crowd.open_gate(2000)
    eventually(lambda: set(crowd.states("slow")) == {"slow_00"}, "it has gone", LONG)
    assert len([number for number in crowd.done() if number >= 1000]) == 2
