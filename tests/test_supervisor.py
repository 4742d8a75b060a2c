"""bin/supervisor-manager on a real supervisord and a real embedded Redis."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from app.config import ROOT
from tests.deployed import kill_all
from tests.services import need
from tests.supervised import REDIS, Stack, queue
from tests.working import eventually

pytestmark = pytest.mark.slow

MakeStack = Callable[..., Stack]


@pytest.fixture
def make_stack(short_directory: Path) -> Iterator[MakeStack]:
    need("redis-server")
    made: list[Stack] = []

    def make(table: str, home: str = "home", startsecs: int = 0) -> Stack:
        directory = Path(tempfile.mkdtemp(dir=short_directory))
        (directory / "root").mkdir()
        made.append(Stack(directory / "root", directory / home, table, startsecs))
        return made[-1]

    yield make
    for stack in made:
        kill_all(stack.found())


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.RedisError:
        return False


def test_start_brings_everything_up_and_stop_leaves_nothing(make_stack: MakeStack) -> None:
    # A space and a percent sign: supervisord treats both in ways of its own.
    stack = make_stack(REDIS + queue("send", 2) + queue("mail", 0), home="a home 100%", startsecs=1)

    assert "everything runs" in stack.run("start")

    pids = stack.pids()
    assert set(pids) == {"redis", "send_00", "send_01"}
    command = Path(f"/proc/{pids['send_01']}/cmdline").read_bytes().replace(b"\0", b" ")
    assert b"/bin/worker --queues send --name send_01 --threads 1" in command
    assert f"MAILCREW_HOME={stack.home}".encode() in Path(f"/proc/{pids['send_00']}/environ").read_bytes()
    eventually((stack.home / "run" / "redis.sock").exists, "Redis listens")
    for name in ("redis.sock", "super.sock"):
        assert stat.S_IMODE((stack.home / "run" / name).stat().st_mode) == 0o700
    client = redis.Redis(unix_socket_path=str(stack.home / "run" / "redis.sock"))
    eventually(lambda: answers(client), "Redis answers")
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert client.config_get("appendonly") == {"appendonly": "yes"}
    client.close()
    eventually(lambda: (stack.home / "logs" / "send_00.log").read_text() == "send_00 up\n", "the log of send_00")
    assert "send:send_00" in stack.supervisorctl("status")

    assert stack.run("stop") == "stopped\n"

    assert stack.found() == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())
    log = (stack.home / "logs" / "supervisord.log").read_text()
    assert log.index("stopped: send_01") < log.index("stopped: redis")


def test_stop_is_fine_when_nothing_runs(make_stack: MakeStack) -> None:
    stack = make_stack(queue("send"))

    assert stack.run("stop") == "not running\n"
    assert '"running": false' in stack.run("status", "--json", code=1)
    assert "supervisord does not answer" in stack.run("start", "send", code=1)


def test_a_second_start_changes_nothing(make_stack: MakeStack) -> None:
    stack = make_stack(REDIS + queue("send"))
    stack.run("start")
    before = stack.pids()

    stack.run("start")

    assert stack.pids() == before


def test_two_starts_at_once_make_one_supervisord(make_stack: MakeStack) -> None:
    stack = make_stack(queue("send"))

    starts = [stack.begin("start") for _ in range(3)]

    assert [start.wait(60) for start in starts] == [0, 0, 0], [start.communicate() for start in starts]
    # Between fork and exec a child looks like another supervisord.
    eventually(lambda: sorted(p.name for p in stack.found()) == ["send_00", "supervisord"], "one of each")
    for start in starts:
        start.communicate()


def test_a_queue_stopped_by_a_person_stays_stopped_until_a_person_starts_it(make_stack: MakeStack) -> None:
    stack = make_stack(queue("send", 2) + queue("expand"))
    stack.run("start")
    before = stack.pids()

    stack.run("stop", "send")
    stack.table = queue("send", 3) + queue("expand")
    stack.run("update")

    assert set(stack.pids()) == {"expand_00"}
    group = next(g for g in stack.status()["groups"] if g["name"] == "send")
    assert (group["stopped_by_hand"], group["wanted"], group["running"]) == (True, 0, 0)

    assert stack.run("start", "send") == "started: send\n"

    after = stack.pids()
    assert set(after) == {"expand_00", "send_00", "send_01", "send_02"}
    assert after["expand_00"] == before["expand_00"]
    # What runs is what the files say, so an update has no reason to restart it.
    assert stack.run("update") == "nothing to change\n"
    assert stack.pids() == after


def test_update_restarts_what_changed_and_nothing_else(make_stack: MakeStack) -> None:
    kept, gone = queue("kept"), queue("gone")
    catcher = '[[service]]\nname = "catcher"\ncommand = "sleep {}"\npriority = 20\nautostart = false\n'
    stack = make_stack(kept + gone + queue("send", 1) + catcher.replace("{}", "1000"))
    stack.run("start")
    assert "catcher" not in stack.pids()
    stack.run("start", "catcher")
    before = stack.pids()

    stack.table = kept + queue("send", 2) + queue("new") + catcher.replace("{}", "2000")
    said = stack.run("update")

    assert sorted(said.splitlines()) == ["catcher: changed", "gone: removed", "new: added", "send-burst-1: started"]
    eventually(
        lambda: set(stack.pids()) == {"kept_00", "send_00", "send-burst-1_00", "new_00", "catcher"}, "all running"
    )
    after = stack.pids()
    assert after["kept_00"] == before["kept_00"]
    assert after["send_00"] == before["send_00"]
    assert after["catcher"] != before["catcher"]


def test_a_table_with_a_mistake_stops_nothing(make_stack: MakeStack) -> None:
    stack = make_stack(queue("send"))
    stack.run("start")
    before = stack.pids()

    stack.table = queue("send", 2, "treads = 4")

    assert "treads = 4 is not allowed" in stack.run("update", code=2)
    assert stack.run("status", "--json", code=0).count("RUNNING") == 2
    eventually(lambda: {p.name: p.pid for p in stack.found() if not p.is_supervisord} == before, "the same run")


def test_a_worker_that_cannot_start_is_named_with_the_end_of_its_stderr(make_stack: MakeStack) -> None:
    stack = make_stack(queue("send") + queue("broken"), startsecs=5)

    said = stack.run("start", "--wait", "20", code=1)

    assert "broken_00 is " in said
    assert "  | broken: no such wheel" in said
    assert "send_00" not in said
    assert "no such wheel" in stack.run("logs", "broken", "--errors")


def test_stop_names_who_remains_and_goes_on_stopping(make_stack: MakeStack) -> None:
    stack = make_stack(queue("stubborn") + queue("send"))
    stack.run("start")
    pids = stack.pids()
    eventually(lambda: (stack.home / "logs" / "stubborn_00.log").stat().st_size > 0, "the sleeper ignoring SIGTERM")

    said = stack.run("stop", "--wait", "15", code=1)

    assert f"stubborn_00 (pid {pids['stubborn_00']}) is still there" in said
    assert "send_00" not in said
    assert stack.status()["state"] == "SHUTDOWN"
    assert "supervisord is stopping" in stack.run("start", code=1)

    os.kill(pids["stubborn_00"], signal.SIGKILL)

    assert stack.run("stop") in ("stopped\n", "not running\n")
    assert stack.found() == []


def test_what_a_killed_supervisord_left_behind_is_stopped(make_stack: MakeStack) -> None:
    stack = make_stack(REDIS + queue("send"))
    stack.run("start")
    kill_supervisord(stack)
    eventually(lambda: {p.name for p in stack.found()} == {"redis", "send_00"}, "what it left behind")

    said = stack.run("stop")

    assert "send_00" in said
    assert said.index("send_00") < said.index("redis")
    assert stack.found() == []


def test_start_ends_the_leftovers_first_so_that_nothing_runs_twice(make_stack: MakeStack) -> None:
    stack = make_stack(REDIS + queue("send"))
    stack.run("start")
    client = redis.Redis(unix_socket_path=str(stack.home / "run" / "redis.sock"))
    eventually(lambda: answers(client), "Redis answers")
    client.set("kept", "yes")
    kill_supervisord(stack)

    stack.run("start")

    # Between fork and exec a child looks like another supervisord.
    eventually(lambda: sorted(p.name for p in stack.found()) == ["redis", "send_00", "supervisord"], "one of each")
    eventually(lambda: answers(client), "Redis answers again")
    assert client.get("kept") == b"yes"
    client.close()


def test_a_supervisord_whose_socket_was_removed_is_stopped_all_the_same(make_stack: MakeStack) -> None:
    stack = make_stack(queue("send"))
    stack.run("start")
    (stack.home / "run" / "super.sock").unlink()

    assert stack.run("stop") == "stopped\n"

    assert stack.found() == []


def test_two_homes_do_not_meet(make_stack: MakeStack) -> None:
    one, other = make_stack(REDIS + queue("send")), make_stack(REDIS + queue("send"))
    one.run("start")
    other.run("start")
    before = other.pids()

    one.run("stop")

    assert one.found() == []
    assert other.pids() == before


def test_a_home_with_a_long_path_has_its_sockets_elsewhere(make_stack: MakeStack) -> None:
    stack = make_stack(REDIS + queue("send"), home="h" * 90)

    stack.run("start")

    assert set(stack.pids()) == {"redis", "send_00"}
    assert stack.run("stop") == "stopped\n"


def test_the_folder_supervisor_does_not_stand_in_for_the_package() -> None:
    code = "from supervisor import xmlrpc; print(xmlrpc.__file__)"

    for options in ([], ["-P"]):
        command = [sys.executable, *options, "-c", code]
        said = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True
        )
        assert "site-packages" in said.stdout, said.stderr
    assert not list((ROOT / "supervisor").rglob("*.py"))


@pytest.mark.parametrize("launcher", ["mailcrew", "supervisor-manager", "scheduler", "catcher", "web"])
def test_a_launcher_works_from_any_directory_and_through_a_link(launcher: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ROOT / "bin" / launcher)
    # A file here that would be imported instead of ours or of the library's.
    (tmp_path / "redis.py").write_text("raise SystemExit('wrong redis')")

    said = subprocess.run([tmp_path / "link", "--help"], cwd=tmp_path, text=True, capture_output=True)

    assert said.returncode == 0, said.stderr
    assert "example" in said.stdout


def kill_supervisord(stack: Stack) -> None:
    pid = next(p.pid for p in stack.found() if p.is_supervisord)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(p.is_supervisord for p in stack.found()), "the end of supervisord")
