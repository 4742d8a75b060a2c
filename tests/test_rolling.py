"""bin/supervisor-manager restart: one after another, and no waiting for what will not come."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deployed import kill_all
from tests.services import need
from tests.supervised import Stack, queue
from tests.working import eventually

MakeStack = Callable[..., Stack]


@pytest.fixture
def make_stack(short_directory: Path) -> Iterator[MakeStack]:
    need("redis-server")
    made: list[Stack] = []

    def make(table: str, startsecs: int = 0) -> Stack:
        directory = Path(tempfile.mkdtemp(dir=short_directory))
        (directory / "root").mkdir()
        made.append(Stack(directory / "root", directory / "home", table, startsecs))
        return made[-1]

    yield make
    for stack in made:
        kill_all(stack.found())


def lines_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """What a command prints, read while it runs, up to the line with `text`."""
    assert process.stdout is not None
    read: list[str] = []
    while line := process.stdout.readline():
        read.append(line)
        if text in line:
            return read
    raise AssertionError(f"it ended without {text!r}: {read}")


def ignores_signals(stack: Stack) -> int:
    """The pid of the worker that does not end on SIGTERM, once it has come so far."""
    eventually(lambda: (stack.home / "logs" / "stubborn_00.log").stat().st_size > 0, "the sleeper is up")
    return stack.pids()["stubborn_00"]


def test_every_process_is_replaced_in_the_order_of_priority(make_stack: MakeStack) -> None:
    stack = make_stack(queue("late", 1, "priority = 300") + queue("early", 2, "priority = 120"))
    stack.run("start")
    before = stack.pids()

    said = stack.run("restart")

    replaced = [line.split()[1] for line in said.splitlines() if " restarted in " in line]
    assert replaced == ["early_00", "early_01", "late_00"]
    assert said.splitlines()[-1] == "3 processes restarted"
    assert not set(before.values()) & set(stack.pids().values())


def test_what_is_stopped_stays_stopped_and_is_named(make_stack: MakeStack) -> None:
    stack = make_stack(queue("send", 2) + queue("expand"))
    stack.run("start")
    stack.run("stop", "expand")

    said = stack.run("restart")

    assert "expand_00 is not replaced, it is STOPPED" in said
    assert "2 processes restarted" in said
    assert set(stack.pids()) == {"send_00", "send_01"}
    assert "nothing was running" in stack.run("restart", "expand")


def test_what_cannot_start_is_named_and_not_waited_for(make_stack: MakeStack) -> None:
    stack = make_stack(queue("broken") + queue("send"), startsecs=5)
    stack.run("start", "--wait", "20", code=1)

    said = stack.run("restart", code=1)

    assert "broken_00 is not replaced, it is " in said
    assert "send_00 restarted in" in said
    assert "1 processes restarted" in said
    assert "\nbroken_00 is BACKOFF" in said


@pytest.mark.slow
def test_code_that_cannot_start_stops_the_deploy_at_the_first_worker(make_stack: MakeStack) -> None:
    stack = make_stack(queue("send", 3), startsecs=5)
    stack.run("start")
    before = stack.pids()
    (stack.root / "bin" / "worker").write_text("raise SystemExit('no such wheel')")

    said = stack.run("restart", code=1)

    assert "send_00 does not start any more: it is " in said
    assert "the rest was left as it is" in said
    after = stack.pids()
    assert {name: after[name] for name in ("send_01", "send_02")} == {n: before[n] for n in ("send_01", "send_02")}


@pytest.mark.slow
def test_a_long_task_is_told_while_it_is_waited_for_and_a_second_restart_is_refused(make_stack: MakeStack) -> None:
    stack = make_stack(queue("stubborn") + queue("zeal"))
    stack.run("start")
    pid = ignores_signals(stack)
    restart = stack.begin("restart")
    # Read as it is printed: the command is still waiting.
    lines_until(restart, "waiting for stubborn_00: ")

    second = stack.run("restart", "zeal", code=1)

    assert f"another restart (pid {restart.pid}) is replacing processes" in second
    assert restart.poll() is None
    lines_until(restart, "waiting for stubborn_00: ")
    os.kill(pid, signal.SIGKILL)
    rest, errors = restart.communicate(timeout=60)
    assert restart.returncode == 0, errors
    assert "2 processes restarted" in rest
    assert "1 processes restarted" in stack.run("restart", "zeal"), "the first one's lock is gone with it"


@pytest.mark.slow
def test_a_worker_stopped_by_somebody_else_meanwhile_is_passed_over(make_stack: MakeStack) -> None:
    stack = make_stack(queue("stubborn") + queue("zeal"))
    stack.run("start")
    pid = ignores_signals(stack)
    restart = stack.begin("restart")
    lines_until(restart, "waiting for stubborn_00: ")
    stack.run("stop", "stubborn", "--wait", "0", code=1)

    said, errors = restart.communicate(timeout=60)

    assert restart.returncode == 0, errors
    assert "stubborn_00 was not replaced; it is STOPP" in said
    assert "zeal_00 restarted in" in said
    os.kill(pid, signal.SIGKILL)
