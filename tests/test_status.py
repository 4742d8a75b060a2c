"""`bin/supervisor-manager status`: queues with their load and workers, and what it says when a service is away."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.config import ROOT
from app.queues.broker import make_broker
from app.queues.tickets import enqueue
from app.scaling.files import make_renderer, table_of, write_slot
from tests.home_stack import HomeStack, home_stack
from tests.services import need
from tests.supervised import REDIS, queue
from tests.working import eventually

SLEEPER = """
[[service]]
name = "sleeper"
command = "sleep 100000"
"""
TABLE = REDIS + queue("mail", 1, "backlog_alert = 2") + queue("idle", 0) + SLEEPER


@pytest.fixture
def stack(short_directory: Path) -> Iterator[HomeStack]:
    need("redis-server")
    with home_stack(short_directory, TABLE, HTTP_BIND="127.0.0.1:1") as made:
        yield made


def named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)


def test_a_queue_is_shown_with_its_load_its_workers_and_its_bursts(stack: HomeStack) -> None:
    stack.run("supervisor-manager", "start")
    renderer, table = make_renderer(stack.settings), table_of(stack.settings)
    for slot in ("mail-burst-2", "mail-burst-10"):
        text = renderer.slot(table, slot, True)
        assert text
        write_slot(stack.settings, slot, text)
    stack.run("supervisor-manager", "update")
    # Nobody fetches from `idle`, so what waits there goes on waiting.
    broker = make_broker(stack.settings.redis_url)
    enqueue(broker, "idle", "nobody")

    seen: list[dict[str, Any]] = []

    def all_heard() -> bool:
        seen.append(stack.json("supervisor-manager", "status"))
        mail = named(seen[-1]["queues"], "mail")
        # On a busy machine Redis or the database may not answer in time now and then.
        return mail["running"] == 3 and mail["rate_per_second"] is not None and not seen[-1]["troubles"]

    eventually(all_heard, "three workers")
    document = seen[-1]
    assert (document["running"], document["state"]) == (True, "RUNNING")
    mail, idle = named(document["queues"], "mail"), named(document["queues"], "idle")
    assert (mail["wanted"], mail["backlog"], mail["in_flight"], mail["oldest_seconds"]) == (3, 0, 0, None)
    assert mail["memory_mb"] > 10
    assert (idle["running"], idle["wanted"], idle["backlog"]) == (0, 0, 1)
    assert idle["oldest_seconds"] > 0
    groups = {group["name"]: group["owner"] for group in document["groups"]}
    assert (groups["mail-burst-2"], groups["sleeper"]) == ("mail", "sleeper")
    process = named(document["groups"], "mail")["processes"][0]
    assert {"name", "state", "pid", "uptime", "detail"} <= set(process)
    assert process["memory_mb"] > 5

    said = stack.run("supervisor-manager", "status")

    shown = [line.split()[0] for line in said.splitlines() if line.strip()]
    assert shown.index("mail_00") < shown.index("mail-burst-2_00") < shown.index("mail-burst-10_00")
    assert shown.index("mail-burst-10_00") < shown.index("idle") < shown.index("redis") < shown.index("sleeper")
    assert "\x1b" not in said, "no colours outside a terminal"


def test_a_frozen_redis_and_a_lost_database_are_told_in_place_of_figures(stack: HomeStack) -> None:
    stack.run("supervisor-manager", "start")
    redis = stack.pids()["redis"]
    stack.environ["DATABASE_URL"] = "mysql://root@127.0.0.1:1/nothing"
    os.kill(redis, signal.SIGSTOP)
    try:
        document = stack.json("supervisor-manager", "status")
        said = stack.run("supervisor-manager", "status")
    finally:
        os.kill(redis, signal.SIGCONT)

    assert set(document["troubles"]) == {"redis", "database"}
    mail = named(document["queues"], "mail")
    assert (mail["running"], mail["backlog"], mail["rate_per_second"]) == (1, None, None)
    assert mail["memory_mb"] > 5
    assert "! the database does not answer" in said
    assert "! Redis does not answer" in said


def test_a_home_without_supervisord_is_not_running(stack: HomeStack) -> None:
    assert "not running" in stack.run("supervisor-manager", "status", code=1)
    assert '"groups": []' in stack.run("supervisor-manager", "status", "--json", code=1)


def test_watch_redraws_on_the_other_screen_and_ends_with_ctrl_c(stack: HomeStack) -> None:
    stack.run("supervisor-manager", "start")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(ROOT / "bin/supervisor-manager"), "status", "--watch"],
        env={**stack.environ, "TERM": "xterm-256color"}, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    os.set_blocking(ours, False)
    seen = bytearray()

    def drawn(times: int) -> bool:
        try:
            seen.extend(os.read(ours, 65_536))
        except OSError:
            time.sleep(0.05)
        return seen.count(b"mail_00") >= times

    eventually(lambda: drawn(2), "a second picture")
    process.send_signal(signal.SIGINT)
    eventually(lambda: drawn(10_000) or process.poll() is not None, "its end")
    with suppress(OSError):  # the last of it, a piece at a time
        while piece := os.read(ours, 65_536):
            seen.extend(piece)
    os.close(ours)

    assert process.returncode == 0
    assert seen.index(b"\x1b[?1049h") < seen.index(b"\x1b[?1049l"), "the other screen, and back"
    assert b"\x1b[32m" in seen, "colours on a terminal"
    assert b"Traceback" not in seen
    assert b"mail_00" in seen[seen.index(b"\x1b[?1049l") :], "the last picture stays"


def test_watch_and_json_do_not_go_together(stack: HomeStack) -> None:
    assert "--json and --watch" in stack.run("supervisor-manager", "status", "--json", "--watch", code=2)
