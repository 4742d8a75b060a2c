"""Processes that do not work are on the page of workers and at /api/processes, with why and their logs."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from app.db import connect
from app.scaling.supervisord import Process
from app.watch.picture import Group, Load, Owner, Picture
from app.web.application import create_app
from app.web.processes import standings
from tests.console import logged_in
from tests.home_stack import HomeStack, home_stack
from tests.services import need
from tests.supervised import REDIS, queue
from tests.web import caller
from tests.working import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TABLE = (
    REDIS
    + queue("idle", 2)
    + """
[[service]]
name = "byhand"
command = "sleep 100000"
autostart = false

[[service]]
name = "broken"
command = "sh -c 'exit 3'"
"""
)


@pytest.fixture
def stack(short_directory: Path) -> Iterator[HomeStack]:
    need("redis-server")
    with home_stack(short_directory, TABLE, HTTP_BIND="127.0.0.1:1") as made:
        made.run("supervisor-manager", "start", "--wait", "1", code=1)
        yield made


@pytest.fixture
def app(stack: HomeStack, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setattr("app.web.watcher.FIRST_SECONDS", 60.0)
    return create_app(stack.settings, db=connect(stack.settings.database_url))


def missed(page: str) -> dict[str, str]:
    """The words of each row of the table of those who do not work, by the process."""
    table = page.partition('<div id="live"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    rows = re.findall(r'<th scope="row">(\w+)<br>(.*?)</tr>', table, re.DOTALL)
    return {name: " ".join(re.sub(r"<[^>]+>", " ", rest).split()) for name, rest in rows}


def test_whoever_does_not_work_is_shown_with_why_and_logs(app: Flask, stack: HomeStack) -> None:
    visitor, reader = logged_in(app), caller(app, "read")
    watcher = app.extensions["mailcrew"].watcher

    def look() -> dict[str, str]:
        watcher.seen = None
        app.extensions["mailcrew"].forget_shared()
        return missed(visitor.get("/workers").text)

    def states() -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in reader.get("/api/processes").get_json()["processes"]}

    eventually(lambda: "starts again and again Exited too quickly" in look().get("broken", ""), "BACKOFF")
    eventually(lambda: set(look()) == {"broken"}, "neither who works nor who waits to be asked")
    assert '<a href="/logs?process=broken">' in visitor.get("/workers").text
    # A worker is on the page from its first heartbeat, which may come after supervisord calls it RUNNING.
    heard = '<a href="/logs?process=idle_00">'
    eventually(lambda: "broken" in look() and heard in visitor.get("/workers").text, "a worker is heard of")
    assert states()["idle_00"]["state"] == "RUNNING"
    assert states()["byhand"] == {
        "name": "byhand", "group": "byhand", "owner": "byhand", "kind": "service", "state": "STOPPED",
        "detail": "Not started", "pid": None, "uptime": 0, "memory_mb": None, "silent": False, "stopped_by_hand": False,
    }  # fmt: skip
    stack.supervisorctl("stop", "idle:idle_00")
    assert re.search(
        r"Stopped \(.+\), and not with bin/supervisor-manager\. To start it again: bin/supervisor-manager start idle",
        look()["idle_00"],
    )
    stack.run("supervisor-manager", "stop", "idle")
    assert "Stopped by hand. To start it again: bin/supervisor-manager start idle" in look()["idle_01"]
    assert states()["idle_01"]["stopped_by_hand"] is True


def test_a_frozen_worker_is_told_apart_from_one_that_works(app: Flask, stack: HomeStack) -> None:
    visitor = logged_in(app)
    pid = next(process.pid for process in stack.processes() if process.name == "idle_00")
    os.kill(pid, signal.SIGSTOP)

    def said() -> str:
        app.extensions["mailcrew"].watcher.seen = None
        app.extensions["mailcrew"].forget_shared()
        return missed(visitor.get("/workers?queue=idle").text).get("idle_00", "")

    eventually(lambda: f"Runs (pid {pid}) and has not been heard of" in said(), "that it is silent", 90)
    assert said().startswith("idle silent")


@pytest.mark.parametrize(
    ("name", "state", "by_hand", "is_missed"),
    [
        ("send", "STOPPED", False, True),
        ("send", "STOPPED", True, True),
        ("send", "STOPPING", False, False),
        ("send-burst-1", "STOPPED", False, False),
        ("campaign_7", "STOPPED", False, False),
        ("send-burst-1", "FATAL", False, True),
    ],
)
def test_who_is_being_taken_away_is_not_missed(name: str, state: str, by_hand: bool, is_missed: bool) -> None:
    process = Process(name, f"{name}_00", state, 0, 0, 0, "Nov 29 08:30 AM")
    group = Group(name, "send", "queue", wanted=1, stopped_by_hand=by_hand, processes=(process,))
    owner = Owner("send", "queue", "send", (group,), Load(), None)
    picture = Picture(Path(), "RUNNING", 1, (owner,), None, (), None, {})
    assert [one.is_missed for one in standings(picture)] == [is_missed]
