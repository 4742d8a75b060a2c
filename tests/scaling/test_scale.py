"""How many workers, by hand: `scale`, a changed table, and what a person stopped."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.scaling.crowd import Crowd, entry
from tests.services import need
from tests.supervised import REDIS, Stack, queue
from tests.working import eventually

pytestmark = pytest.mark.slow

MakeCrowd = Callable[..., Crowd]


@pytest.fixture
def make_crowd(short_directory: Path) -> Iterator[MakeCrowd]:
    need("redis-server")
    made: list[Crowd] = []

    def make(*queues: str, sleeping: bool = False) -> Crowd:
        made.append(Crowd(Path(tempfile.mkdtemp(dir=short_directory)), *queues, sleeping=sleeping))
        made[-1].start()
        return made[-1]

    yield make
    for crowd in made:
        crowd.end()


def test_scale_adds_and_takes_away_without_restarting_anyone(make_crowd: MakeCrowd) -> None:
    crowd = make_crowd(entry("work", 2, 3), sleeping=True)
    two = crowd.pids("work")

    assert "work: 4 workers" in crowd.stack.run("scale", "work", "4")
    four = crowd.pids("work")
    assert "work: 4 workers, as before" in crowd.stack.run("scale", "work", "4")
    assert crowd.pids("work") == four
    said = crowd.stack.run("scale", "work", "1")
    one = crowd.pids("work")

    assert set(four) == {"work_00", "work_01", "work-burst-1_00", "work-burst-2_00"}
    assert two.items() <= four.items()
    assert "work_01: finishes its task and goes" in said
    assert one == {"work_00": two["work_00"]}
    assert "work: 1 now, 1 at least, 3 at most (by hand; scale --auto ends that)" in crowd.stack.run("scale", "work")
    # A manager goes by it too, and nothing is left to apply.
    assert crowd.manage("--once").split()[:2] == ["work", "1"]
    assert crowd.stack.run("update") == "nothing to change\n"
    assert crowd.pids("work") == one
    assert "goes by the table again" in crowd.stack.run("scale", "work", "--auto")
    assert crowd.pids("work").items() >= one.items()
    assert len(crowd.pids("work")) == 2


def test_a_word_survives_the_stack_and_a_stopped_queue_is_left_alone(make_crowd: MakeCrowd) -> None:
    crowd = make_crowd(entry("work", 2, 3), sleeping=True)
    crowd.stack.run("scale", "work", "3")
    crowd.stack.run("stop", "work")

    assert "was stopped by a person" in crowd.stack.run("scale", "work", "2", code=1)
    assert "stopped by a person: left alone" in crowd.manage("--once")
    assert crowd.pids("work") == {}

    crowd.stack.run("start", "work")
    crowd.manage("--once")
    eventually(lambda: len(crowd.pids("work")) == 3, "the word of before counts again")
    crowd.stack.run("stop")
    assert "supervisord does not run: kept for the next start" in crowd.stack.run("scale", "work", "1")
    crowd.stack.run("start")
    eventually(lambda: len(crowd.pids("work")) == 1, "the word given meanwhile counts")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nothing", "2"], "there is no queue 'nothing' in supervisor/queues.toml; there are work"),
        (["work", "1001"], "N=1001 is not allowed: 0 to 1000 workers"),
        (["work", "3", "--max", "2"], "--max=2 is not allowed: 3 to 1000 workers"),
        (["work", "--max", "2"], "--max=2 needs N as well"),
        (["work", "2", "--auto"], "--auto goes without N"),
    ],
)
def test_a_wrong_word_is_refused_before_anything_is_changed(tmp_path: Path, words: list[str], problem: str) -> None:
    (tmp_path / "root").mkdir()
    stack = Stack(tmp_path / "root", tmp_path / "home", REDIS + entry("work", 1, 2), startsecs=1)

    process = stack.begin("scale", *words)
    _, said = process.communicate(timeout=60)

    assert process.returncode in (1, 2)
    assert problem in said
    assert not list((tmp_path / "home" / "state").glob("scale/*"))


def test_another_number_in_the_table_restarts_nobody(make_crowd: MakeCrowd) -> None:
    crowd = make_crowd(queue("send", 2), queue("kept"), sleeping=True)
    before = crowd.stack.pids()

    crowd.stack.table = REDIS + queue("send", 4) + queue("kept")
    assert crowd.stack.run("update").splitlines() == [
        "send-burst-1: started",
        "send-burst-2: started",
    ]
    more = crowd.stack.pids()
    crowd.stack.table = REDIS + queue("send", 1) + queue("kept")
    crowd.stack.run("update")
    eventually(lambda: "send_01" not in crowd.stack.pids(), "one of the two is gone")
    fewer = crowd.stack.pids()
    crowd.stack.run("render")
    # Plain supervisorctl finds nothing to do either.
    crowd.stack.supervisorctl("update")

    assert before.items() <= more.items()
    assert set(more) - set(before) == {"send-burst-1_00", "send-burst-2_00"}
    assert fewer["send_00"] == before["send_00"]
    assert fewer["kept_00"] == before["kept_00"]
    assert crowd.stack.pids() == fewer
    # A full start takes the table at its word.
    crowd.stack.run("stop")
    crowd.stack.run("start")
    assert {name for name in crowd.stack.pids() if name.startswith("send_")} == {"send_00"}


def test_slots_follow_the_table_and_go_with_their_queue(make_crowd: MakeCrowd) -> None:
    crowd = make_crowd(queue("send", 1, "max = 3"), queue("kept"), sleeping=True)
    crowd.stack.run("scale", "send", "2")

    crowd.stack.table = REDIS + queue("send", 1, "max = 3\nmemory = 128") + queue("kept")
    crowd.stack.run("update")
    eventually(lambda: "send-burst-1_00" in crowd.stack.pids(), "the slot runs again")
    command = Path(f"/proc/{crowd.stack.pids()['send-burst-1_00']}/cmdline").read_bytes()
    assert b"128" in command.split(b"\0")

    crowd.stack.table = REDIS + queue("kept")
    said = crowd.stack.run("update")
    assert "send-burst-1: removed" in said
    assert set(crowd.stack.pids()) == {"redis", "kept_00"}
    assert not list(crowd.settings.conf_d.glob("send*"))
