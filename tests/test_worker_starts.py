"""A worker that dies at once waits before it starts again, and a worker over its memory limit is replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.config import ROOT, Settings, make_home, read_settings
from app.db import connect, migrate
from app.workers import starts
from app.workers.starts import Starts, restart_trouble
from tests.reaping import BEGAN, GO, ran
from tests.test_worker_limits import put
from tests.working import WorkerProcess, eventually

SUPERVISED = {"SUPERVISOR_ENABLED": "1"}


@pytest.fixture
def home(tmp_path: Path, redis_server: str) -> Settings:
    made = read_settings({"MAILCREW_HOME": str(tmp_path / "home"), "REDIS_URL": f"{redis_server}?db=6"}, root=tmp_path)
    make_home(made)
    db = connect(made.database_url)
    migrate(db)
    db.close()
    return made


@pytest.fixture
def client(home: Settings) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(home.redis_url)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


def lives(settings: Settings, seconds: float, times: int, now: float, reason: str = "") -> list[float]:
    """Start so often, each life that long and without a graceful end; the waits."""
    waits = []
    for _ in range(times):
        made = Starts.of(settings, "send_00")
        waits.append(made.begin(now))
        # Another process, for this one is alive.
        made.record.born = "0"
        made.say(reason)
        made.record.ended_at = 0.0
        made._write()
        now += waits[-1] + seconds
    return waits


def test_the_waits_double_up_to_a_minute(home: Settings) -> None:
    assert lives(home, 1, 13, time.time()) == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_long_lives_never_wait(home: Settings) -> None:
    assert set(lives(home, starts.QUICK_SECONDS + 1, 20, time.time())) == {0}


def test_a_long_life_and_a_graceful_end_clear_it(home: Settings) -> None:
    now = time.time()
    lives(home, 1, 6, now)
    assert restart_trouble(home) != []
    later = now + 100
    assert Starts.of(home, "send_00").begin(later) == 0
    lives(home, 1, 6, later + 100)
    made = Starts.of(home, "send_00")
    made.end()
    assert restart_trouble(home) == []
    assert made.begin(later + 200) == 0


def test_a_death_while_waiting_keeps_the_rest_of_the_wait(home: Settings) -> None:
    lives(home, 1, 10, time.time())
    before = json.loads((home.state / "starts" / "send_00.json").read_text())
    made = Starts.of(home, "send_00")
    assert made.begin(before["waiting_until"] - 3) == pytest.approx(3)
    assert made.record.count == before["count"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"count": "x"}', '{"pid": null}', "\x00\xff", '{"colour": 1}'])
def test_a_record_that_cannot_be_read_keeps_nothing_from_starting(home: Settings, content: str) -> None:
    made = Starts.of(home, "send_00")
    made.path.parent.mkdir()
    made.path.write_text(content)
    assert restart_trouble(home) == []
    assert made.begin(time.time()) == 0


def test_a_record_that_cannot_be_written_keeps_nothing_from_starting(home: Settings) -> None:
    (home.state / "starts").write_text("a file where the directory should be")
    with WorkerProcess(home, **SUPERVISED) as worker:
        worker.wait_for("Serving")
        worker.tell(signal.SIGTERM)
        assert worker.wait() == 0


def test_a_worker_that_was_killed_again_and_again_waits_says_so_and_hears_a_signal_at_once(home: Settings) -> None:
    for _ in range(starts.FREE + 1):
        with WorkerProcess(home, name="send_03", **SUPERVISED) as victim:
            _noted(home, victim.pid)
            victim.kill()
            _died_at_once(home)
    _wind_back(home)
    with WorkerProcess(home, name="send_03", **SUPERVISED) as worker:
        eventually(lambda: "starting after" in worker.text(), "it says that it waits")
        (trouble,) = restart_trouble(home)
        assert (trouble.program, trouble.reason) == ("send_03", starts.KILLED)
        assert trouble.count > starts.FREE
        assert trouble.waiting_until > time.time()
        assert worker.lines("Serving") == []
        worker.tell(signal.SIGTERM)
        assert worker.wait() == 0
        assert worker.lines("Worker gracefully shutdown")
    assert restart_trouble(home) == []


def _noted(settings: Settings, pid: int) -> None:
    path = settings.state / "starts" / "send_03.json"
    eventually(lambda: path.exists() and json.loads(path.read_text())["pid"] == pid, "its start is noted")


def _died_at_once(settings: Settings) -> None:
    """Killed it could not say when it ended, and the next start may come much later on a busy machine."""
    path = settings.state / "starts" / "send_03.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "ended_at": record["started_at"] + 1}))


def _wind_back(settings: Settings) -> None:
    """Many more deaths, and the last just now: the next wait is a whole minute."""
    path = settings.state / "starts" / "send_03.json"
    record = json.loads(path.read_text())
    assert record["count"] >= starts.FREE
    path.write_text(json.dumps({**record, "count": 20, "waiting_until": 0.0}))


def test_a_worker_that_cannot_load_its_actors_says_why(home: Settings) -> None:
    for _ in range(starts.FREE + 1):
        with WorkerProcess(home, "--modules", "actors.nothing", name="mail_00", **SUPERVISED) as worker:
            assert worker.wait() == 1
    (trouble,) = restart_trouble(home)
    assert trouble.program == "mail_00"
    assert "No module named 'actors.nothing'" in trouble.reason


CONF = """
[supervisord]
nodaemon=true
logfile={home}/supervisord.log
pidfile={home}/supervisord.pid
[program:hungry]
command={python} {root}/bin/worker --queues work --name hungry --threads 2 --memory 150 --modules tests.stubborn
autorestart=true
startsecs=1
stdout_logfile={home}/logs/hungry.log
stderr_logfile={home}/logs/hungry.err
"""


def test_a_worker_over_its_memory_limit_finishes_and_supervisord_replaces_it(
    home: Settings, client: redis.Redis
) -> None:
    conf = home.home / "test.conf"
    conf.write_text(CONF.format(home=home.home, python=sys.executable, root=ROOT))
    environment = {**os.environ, "MAILCREW_HOME": str(home.home), "REDIS_URL": home.redis_url}
    environment.pop("DATABASE_URL", None)
    log, err = home.logs / "hungry.log", home.logs / "hungry.err"

    def said(event: str) -> list[dict[str, object]]:
        whole = [path.read_text().rpartition("\n")[0] for path in (log, err) if path.exists()]
        lines = [json.loads(line) for text in whole for line in text.splitlines()]
        return [line for line in lines if line["event"] == event]

    supervisord = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(conf)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        put(home, "grow", 300)
        eventually(lambda: ran(client, BEGAN) == ["grow"], "it grows")
        eventually(lambda: said("memory limit reached: finishing, then a fresh start"), "the limit is noticed")
        put(home, "note", "later")
        assert ran(client) == [], "its task still runs, and nothing new is taken"
        client.set(GO, "1")
        eventually(lambda: ran(client) == ["grow", "later"], "a fresh worker takes what waited")
        (ended,) = said("Worker gracefully shutdown")
        assert (ended["reason"], ended["processed_count"]) == ("memory limit", 1)
        first, second = said("Signal handlers registered (SIGTERM, SIGINT, SIGQUIT)")
        assert ended["pid"] == first["pid"] != second["pid"]
        exits = [line for line in (home.home / "supervisord.log").read_text().splitlines() if "exited: hungry" in line]
        assert len(exits) == 1
        assert "exit status 0" in exits[0]
        assert restart_trouble(home) == []
    finally:
        supervisord.terminate()
        supervisord.wait(30)
