"""Deploying in the middle of a campaign: nothing stops, nobody is lost, nobody gets it twice."""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.campaigns.lifecycle import schedule_campaign
from app.db import Db
from tests.deployed import EXTRA, Installation, SlowServer, installed
from tests.sending import NOW, add_list, add_people, add_test_server, draft
from tests.services import need
from tests.working import eventually

#: Eight connections that accept nothing for so long mean that nobody sends, unless the machine is that slow
#: anyway: on a busy one it counts how long they stood still before the deploy.
STANDSTILL_SECONDS = 3.0


@pytest.fixture
def installation(short_directory: Path, database_url: str) -> Iterator[Installation]:
    need("redis-server")
    with installed(Path(tempfile.mkdtemp(dir=short_directory)), database_url) as made:
        yield made


def due(db: Db, server: SlowServer, people: int) -> int:
    """A campaign whose time has come; its id."""
    add_list(db, "all", add_people(db, people))
    add_test_server(server)
    campaign_id = draft(db, ["all"])
    schedule_campaign(db, campaign_id, NOW, NOW)
    return campaign_id


def status(db: Db, campaign_id: int) -> str:
    return str(db.value("SELECT status FROM campaigns WHERE id = ?", campaign_id))


def assert_everybody_once(db: Db, campaign_id: int, server: SlowServer, people: int) -> None:
    counts = server.counts()
    assert len(counts) == people
    assert set(counts.values()) == {1}
    states = db.rows("SELECT state, COUNT(*) FROM recipients WHERE campaign_id = ? GROUP BY state", campaign_id)
    assert states == [("sent", people)]
    assert server.violations == []


def longest_standstill(server: SlowServer, begin: float, end: float) -> float:
    """The longest time without an accepted mail between two instants."""
    instants = [begin, *(at for at in server.accepted_at if begin < at < end), end]
    return max(later - earlier for earlier, later in itertools.pairwise(instants))


class Ticking:
    """How long this process, in which the mail server lives, stood still itself: `longest`, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Ticking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(0.1):
            self.longest, began = max(self.longest, time.monotonic() - began), time.monotonic()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_deploy_with_a_migration_in_the_middle_of_a_campaign_stops_nothing(
    db: Db, installation: Installation
) -> None:
    people = 8000
    with SlowServer(pace=0.2) as server:
        campaign_id = due(db, server, people)
        installation.run("supervisor-manager", "start")
        assert server.wait_for(200), installation.log("send_00")
        before = installation.pids()
        calm = time.monotonic()
        assert server.wait_for(500)

        began = time.monotonic()
        with Ticking() as ticking:
            installation.pull()
            assert f"applied {EXTRA}" in installation.run("mailcrew", "db", "migrate")
            said = installation.run("supervisor-manager", "restart")
        ended = time.monotonic()

        assert status(db, campaign_id) == "sending", "the campaign has to outlast the deploy, or this proves nothing"
        server.calm.set()
        eventually(lambda: status(db, campaign_id) == "sent", f"it is sent\n{said}", 90)
        assert_everybody_once(db, campaign_id, server, people)
        usual = longest_standstill(server, calm, began)
        allowed = max(STANDSTILL_SECONDS, 3 * usual, 2 + 2 * ticking.longest)
        assert longest_standstill(server, began, ended) < allowed, said
        after = installation.pids()
        replaced = {"periodic_00", "expand_00", "send_00", "send_01", "scheduler"}
        assert {name for name in after if after[name] != before[name]} == replaced, said
        assert {name for name in replaced if f"{name} restarted in" in said} == replaced
        assert db.value("SELECT COUNT(*) FROM recipients WHERE opened_at IS NULL") == people


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_supervisord_that_was_killed_and_started_again_has_one_set_of_workers(
    db: Db, installation: Installation
) -> None:
    people = 3000
    with SlowServer(pace=0.2) as server:
        campaign_id = due(db, server, people)
        installation.run("supervisor-manager", "start")
        assert server.wait_for(200)
        before = installation.pids()

        os.kill(next(p.pid for p in installation.found() if p.is_supervisord), signal.SIGKILL)
        said = installation.run("supervisor-manager", "start")

        names = sorted(process.name for process in installation.found())
        assert names == ["expand_00", "periodic_00", "redis", "scheduler", "send_00", "send_01", "supervisord"], said
        assert not set(before.values()) & set(installation.pids().values())
        assert status(db, campaign_id) == "sending"
        server.calm.set()
        eventually(lambda: status(db, campaign_id) == "sent", "it is sent", 90)
        assert_everybody_once(db, campaign_id, server, people)


@pytest.mark.slow
def test_a_stop_that_takes_too_long_says_who_is_at_what(db: Db, installation: Installation) -> None:
    with SlowServer(pace=100) as server:
        campaign_id = due(db, server, 100)
        installation.run("supervisor-manager", "start")
        eventually(server.holding.is_set, "a mail is on its way")
        pids = installation.pids()
        busy = f"queue send, campaign {campaign_id}, send for "

        def told(*arguments: str) -> str:
            return installation.run("supervisor-manager", "stop", *arguments, "--wait", "3", code=1)

        # What it is at, a worker says every few seconds.
        eventually(lambda: busy in told("send"), "it is named with its work")
        one = told("send")
        sending = [line for line in one.splitlines() if busy in line]
        eventually(lambda: "expand_00" not in told(), "those who had nothing to do are gone")
        everything = told()
        assert all(" is still STOPPING: " in line for line in sending)
        assert {f"send_0{i} (pid {pids[f'send_0{i}']})" for i in (0, 1)} >= {line.split(" is ")[0] for line in sending}
        assert busy in everything
        assert "expand_00" not in everything
        server.calm.set()
        assert installation.run("supervisor-manager", "stop") in ("stopped\n", "not running\n")
        assert installation.found() == []


def test_a_worker_of_new_code_waits_for_the_migration_and_then_works(db: Db, installation: Installation) -> None:
    with SlowServer(pace=0) as server:
        campaign_id = due(db, server, 50)
        installation.run("supervisor-manager", "start", "--wait", "30")
        eventually(lambda: status(db, campaign_id) == "sent", "it is sent")
        installation.pull()

        before = installation.pids()["send_00"]
        os.kill(before, signal.SIGTERM)
        lacking = f"the database lacks {EXTRA}; run bin/mailcrew db migrate"
        eventually(lambda: lacking in installation.log("send_00"), "it says what it waits for")
        assert "migrated" not in installation.run("supervisor-manager", "status")

        assert f"migrated: {EXTRA}" in installation.run("supervisor-manager", "restart", "send")
        assert "the database is ready" not in installation.log("send_01"), "it never had to wait"
        (installation.root / "app" / "migrations" / f"{EXTRA}.py").unlink()
        installation.run("supervisor-manager", "restart", "send")
        eventually(lambda: "newer version than this worker" in installation.log("send_00"), "old code on a new schema")
