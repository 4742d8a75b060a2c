"""A supervisord killed with -9 leaves nothing at work: workers, clock, manager and web end by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import ROOT, Settings
from app.scaling.processes import processes_of
from app.workers.parent import ADDRESS, parent_at_start
from tests.home_stack import HomeStack, home_stack
from tests.ports import free_port
from tests.services import need
from tests.working import WorkerProcess, eventually

TABLE = """
[[service]]
name = "redis"
command = "{redis_server} {home}/redis.conf"
priority = 10
when = "embedded_redis"

[[queue]]
name = "periodic"
priority = 100
threads = 1

[[service]]
name = "web"
command = "{python} {root}/bin/web"
priority = 880

[[service]]
name = "queue-manager"
command = "{python} {root}/bin/queue-manager"
priority = 890

[[service]]
name = "scheduler"
command = "{python} {root}/bin/scheduler"
priority = 900
"""
OURS = {"periodic", "web", "queue-manager", "scheduler"}


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite only: who is whose parent is no business of the database."""
    return f"sqlite:///{tmp_path / 'test.db'}"


def groups(stack: HomeStack) -> set[str]:
    return {process.group for process in processes_of(stack.home)}


@pytest.mark.timeout(240)
def test_everything_but_redis_ends_when_supervisord_was_killed_and_starts_anew(short_directory: Path) -> None:
    need("redis-server")
    with home_stack(short_directory, TABLE, HTTP_BIND=f"127.0.0.1:{free_port()}") as stack:
        stack.run("supervisor-manager", "start")
        eventually(lambda: set(stack.pids()) == OURS | {"redis"}, "everything runs")
        before = stack.pids()
        # The manager writes this once it has its signal handlers and is at work.
        eventually(lambda: "queue manager started" in log(stack, "queue-manager"), "the manager is at work")
        eventually(lambda: '"listening"' in log(stack, "web"), "the web service is up")
        supervisord = int((stack.settings.run / "supervisord.pid").read_text())

        os.kill(supervisord, signal.SIGKILL)
        eventually(lambda: groups(stack) == {"redis"}, "nothing but the foundation is left")

        stack.run("supervisor-manager", "start")
        eventually(lambda: set(stack.pids()) == OURS | {"redis"}, "everything runs again")
        assert not set(before.values()) & set(stack.pids().values())
        assert "another manager" not in log(stack, "queue-manager")


def log(stack: HomeStack, process: str) -> str:
    return "".join(path.read_text() for path in stack.settings.logs.glob(f"{process}.*"))


def supervised(settings: Settings) -> dict[str, str]:
    return {"SUPERVISOR_ENABLED": "1", ADDRESS: f"unix://{settings.sockets}/supervisor.sock"}


def dead_pid() -> int:
    """The pid of a process that was, and is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_worker_whose_supervisord_died_before_it_could_look_ends(settings: Settings) -> None:
    (settings.run / "supervisord.pid").write_text(f"{dead_pid()}\n")
    with WorkerProcess(settings, **supervised(settings)) as worker:
        assert worker.wait(60) == 0
        (said,) = worker.lines("parent process is gone: stopping")
        assert said["parent"] == int((settings.run / "supervisord.pid").read_text())


def test_who_is_the_parent_follows_from_the_pid_file_only_under_this_homes_supervisord(settings: Settings) -> None:
    file, parent, dead = settings.run / "supervisord.pid", os.getppid(), dead_pid()
    file.write_text(str(dead))
    assert parent_at_start(settings, supervised(settings)) == dead
    assert parent_at_start(settings, {}) == parent
    assert parent_at_start(settings, {ADDRESS: "unix:///elsewhere/supervisor.sock"}) == parent
    for unreadable in ("", "x"):
        file.write_text(unreadable)
        assert parent_at_start(settings, supervised(settings)) == parent
    file.unlink()
    assert parent_at_start(settings, supervised(settings)) == parent


def test_a_supervisord_that_could_not_write_its_pid_is_a_parent(settings: Settings, tmp_path: Path) -> None:
    (settings.run / "supervisord.pid").write_text(str(dead_pid()))
    script = tmp_path / "supervisord"
    script.write_text(
        "import os, subprocess, sys\n"
        "code = 'from app.config import settings; from app.workers.parent import parent_at_start; '\n"
        "code += 'print(parent_at_start(settings()))'\n"
        "print(os.getpid(), flush=True)\n"
        "subprocess.run([sys.executable, '-c', code], check=True)\n"
    )
    environ = {**os.environ, **supervised(settings), "MAILCREW_HOME": str(settings.home), "PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, str(script)], env=environ, capture_output=True, text=True, check=True)
    mine, parent = said.stdout.split()
    assert mine == parent
