"""/api/workers: who works, and whom a caller can stop: workers of this home, nobody else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from app.config import Settings
from app.db import Db
from app.web.application import create_app
from tests.web import Caller, caller, error_of, plant
from tests.working import eventually

KEYS = [
    "pid", "host", "program", "queues", "campaign_id", "is_processing", "processed_count", "uptime",
    "rate_per_second", "rss_mb",
]  # fmt: skip


@pytest.fixture
def here(db: Db, settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=12")


@pytest.fixture
def admin(db: Db, here: Settings, client: redis.Redis) -> Caller:
    return caller(create_app(here, db=db))


class Standing:
    """A process that looks as if supervisord had started it, or nearly so."""

    def __init__(self, directory: Path, home: Path, *words: str, script: str, group: str) -> None:
        path = directory / script
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import time\nprint('up', flush=True)\nwhile True:\n    time.sleep(60)\n")
        environ = {**os.environ, "MAILCREW_HOME": str(home)}
        if group:
            environ |= {"SUPERVISOR_GROUP_NAME": group, "SUPERVISOR_PROCESS_NAME": f"{group}_00"}
        self._process = subprocess.Popen([sys.executable, str(path), *words], env=environ, stdout=subprocess.PIPE)
        assert self._process.stdout
        self._process.stdout.readline()
        self.pid = self._process.pid

    def ended_by(self) -> int:
        return -self._process.wait(10)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        assert self._process.stdout
        self._process.stdout.close()


Stand = Callable[..., Standing]


@pytest.fixture
def stand(tmp_path: Path, here: Settings) -> Iterator[Stand]:
    made: list[Standing] = []

    def start(*words: str, home: Path = here.home, script: str = "bin/worker", group: str = "g") -> Standing:
        made.append(Standing(tmp_path, home, *words, script=script, group=group))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_a_worker_is_described_with_exactly_the_promised_keys(admin: Caller, client: redis.Redis) -> None:
    plant(client, 4711, queues=["expand", "send"], is_processing=True)
    status = admin.get("/api/workers/4711/status").get_json()
    assert list(status) == KEYS
    assert (status["pid"], status["queues"], status["is_processing"]) == (4711, ["expand", "send"], True)
    assert admin.get("/api/workers").get_json() == [status]


def test_without_workers_the_list_is_empty(admin: Caller) -> None:
    assert admin.get("/api/workers").get_json() == []


def test_a_pid_that_nobody_has_is_not_found(admin: Caller, client: redis.Redis) -> None:
    plant(client, 1)
    for path in ("/api/workers/2/status", "/api/workers/1/status?host=elsewhere"):
        response = admin.get(path)
        assert response.status_code == 404
        assert error_of(response)["field"] == "pid"


def test_a_pid_that_two_hosts_have_needs_the_host(admin: Caller, client: redis.Redis) -> None:
    plant(client, 1, "one")
    plant(client, 1, "other")
    response = admin.get("/api/workers/1/status")
    assert response.status_code == 409
    assert error_of(response)["field"] == "host"
    assert "one, other" in error_of(response)["message"]
    assert admin.get("/api/workers/1/status?host=other").get_json()["host"] == "other"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"pid": "1"}, "pid"),
        ({"pid": 0}, "pid"),
        ({"pid": -1}, "pid"),
        ({"pid": True}, "pid"),
        ({"pid": None}, "pid"),
        ({"pid": 1.5}, "pid"),
        ({"queue": 1}, "queue"),
        ({"queue": ""}, "queue"),
        ({"queue": None}, "queue"),
        ({"queue": "x" * 201}, "queue"),
        ({"pid": 1, "queue": "send"}, "queue"),
        ({"pids": [1]}, "pids"),
    ],
)
def test_a_wrong_wish_is_refused_with_its_field(
    admin: Caller, stand: Stand, body: dict[str, object], field: str
) -> None:
    worker = stand("--queues", "send")
    response = admin.post("/api/workers/stop", body)
    assert response.status_code == 400
    assert error_of(response)["field"] == field
    assert worker.alive


def test_a_worker_is_stopped_by_pid_and_no_other(admin: Caller, stand: Stand) -> None:
    one, other = stand("--queues", "send"), stand("--queues", "send")
    assert admin.post("/api/workers/stop", {"pid": one.pid}).get_json() == {"stopping": [one.pid]}
    assert one.ended_by() == signal.SIGTERM
    assert other.alive


def test_workers_are_stopped_by_queue(admin: Caller, stand: Stand) -> None:
    both, mail, longer = stand("--queues", "mail,send"), stand("--queues", "mail"), stand("--queues", "send2")
    assert admin.post("/api/workers/stop", {"queue": "send"}).get_json() == {"stopping": [both.pid]}
    assert both.ended_by() == signal.SIGTERM
    assert mail.alive
    assert longer.alive
    response = admin.post("/api/workers/stop", {"queue": "sen"})
    assert (response.status_code, error_of(response)["field"]) == (404, "queue")


def test_without_a_wish_all_workers_are_stopped_and_nothing_else(admin: Caller, stand: Stand) -> None:
    one, other = stand("--queues", "send"), stand("--queues", "mail", group="mail-burst-1")
    scheduler = stand(script="bin/scheduler")
    assert admin.post("/api/workers/stop", {}).get_json() == {"stopping": sorted([one.pid, other.pid])}
    assert one.ended_by() == other.ended_by() == signal.SIGTERM
    assert scheduler.alive


def test_a_pid_that_is_no_worker_of_this_home_is_never_signalled(
    admin: Caller, stand: Stand, tmp_path: Path, client: redis.Redis
) -> None:
    innocents = [
        stand("--queues", "send", home=tmp_path / "other home"),
        stand("--queues", "send", script="bin/scheduler"),
        stand("send"),
        # Started by hand: nobody would replace it.
        stand("--queues", "send", group=""),
    ]
    for process in innocents:
        # Whatever somebody wrote into Redis about it.
        plant(client, process.pid, socket.gethostname())
        response = admin.post("/api/workers/stop", {"pid": process.pid})
        assert (response.status_code, error_of(response)["field"]) == (404, "pid")
    for pid in (os.getpid(), 1, 2**31 - 1, 2**70):
        assert admin.post("/api/workers/stop", {"pid": pid}).status_code == 404
    assert all(process.alive for process in innocents)


def test_a_worker_that_is_told_twice_is_told_once_more_and_no_error(admin: Caller, stand: Stand) -> None:
    worker = stand("--queues", "send")
    admin.post("/api/workers/stop", {"pid": worker.pid})
    eventually(lambda: not worker.alive, "it has ended")
    assert admin.post("/api/workers/stop", {"pid": worker.pid}).status_code == 404
