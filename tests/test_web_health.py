"""/api/health answers in time, whatever the services behind it do."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.config import ROOT, Settings
from app.db import Db, connect, migrate
from app.models.tables import bind
from app.models.tokens import create_token
from app.queues.broker import redis_client
from app.web.application import create_app
from app.web.health import PROBE_SECONDS
from app.web.probes import Probe, ask_all
from app.web.server import THREADS
from tests.ports import free_port
from tests.services import private_mariadb, private_redis
from tests.test_web_service import Site
from tests.web import Caller
from tests.working import eventually


@pytest.fixture
def mortal(short_directory: Path) -> Iterator[Freezing]:
    directory = short_directory / f"health-{time.monotonic_ns()}"
    directory.mkdir()
    with private_redis(directory) as url:
        server = Freezing(url)
        yield server
        server.thaw()


class Freezing:
    """A Redis that can be stopped without ending, as on a machine that is paused."""

    def __init__(self, url: str) -> None:
        self.url = url
        client = redis_client(url)
        self._pid = int(client.info("server")["process_id"])
        client.close()

    def freeze(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._pid, signal.SIGCONT)


def test_all_is_well_without_a_token(db: Db, settings: Settings) -> None:
    response = Caller(create_app(settings, db=db)).get("/api/health")
    assert response.status_code == 200
    assert response.get_json() == {"status": "ok", "database": True, "redis": True}


def test_a_frozen_redis_is_told_in_time_and_holds_one_thread(db: Db, settings: Settings, mortal: Freezing) -> None:
    caller = Caller(create_app(replace(settings, redis_url=mortal.url), db=db))
    eventually(lambda: caller.get("/api/health").status_code == 200, "all is well")
    mortal.freeze()
    began = time.monotonic()

    asking = [threading.Thread(target=caller.get, args=("/api/health",)) for _ in range(3)]
    for one in asking:
        one.start()
    response = caller.get("/api/health")
    probes = [thread.name for thread in threading.enumerate() if thread.name == "probe"]
    for one in asking:
        one.join()

    assert time.monotonic() - began < 15 * PROBE_SECONDS
    assert response.status_code == 503
    assert response.get_json() == {
        "status": "unavailable", "database": True, "redis": False, "reason": "no good answer within 2 s from: redis",
    }  # fmt: skip
    assert len(probes) <= 1
    mortal.thaw()
    eventually(lambda: caller.get("/api/health").status_code == 200, "well again")


def test_a_database_that_is_gone_is_told_and_the_service_starts_without_it(settings: Settings, tmp_path: Path) -> None:
    gone = {"sqlite": f"sqlite:///{tmp_path}/no/such.db", "mysql": f"mysql://r@localhost/x?unix_socket={tmp_path}/no"}
    away = replace(settings, database_url=gone[settings.database_url.partition(":")[0]])
    caller = Caller(create_app(away), "some token")

    response = caller.get("/api/health")

    assert response.status_code == 503
    assert response.get_json() == {
        "status": "unavailable", "database": False, "redis": True, "reason": "no good answer within 2 s from: database",
    }  # fmt: skip
    refused = caller.get("/api/queues")
    assert refused.status_code == 503
    assert refused.get_json()["error"]["code"] == "unavailable"
    assert str(tmp_path) not in refused.text


def test_a_database_that_was_not_migrated_is_not_well(settings: Settings, database_url: str) -> None:
    bind(connect(database_url))
    assert Caller(create_app(settings)).get("/api/health").get_json()["database"] is False


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # it brings its own
def test_a_frozen_mariadb_holds_no_thread_for_long(short_directory: Path, settings: Settings) -> None:
    directory = short_directory / f"frozen-{time.monotonic_ns()}"
    directory.mkdir()
    with private_mariadb(directory) as url:
        root = connect(url.format(name="mysql"))
        root.run("CREATE DATABASE mailcrew CHARACTER SET utf8mb4")
        db = connect(url.format(name="mailcrew"))
        migrate(db)
        bind(db)
        token = create_token("operator", "admin", 1)
        db.close()
        port, pid = free_port(), int((directory / "pid").read_text())
        environment = {
            **os.environ, "MAILCREW_HOME": str(settings.home), "DATABASE_URL": url.format(name="mailcrew"),
            "REDIS_URL": settings.redis_url, "HTTP_BIND": f"127.0.0.1:{port}",
        }  # fmt: skip
        service = subprocess.Popen([ROOT / "bin" / "web"], env=environment, stdout=subprocess.DEVNULL)
        site = Site(port, token)
        try:
            eventually(lambda: site.up and site.ask("/api/campaigns")[0] == 200, "the service is up")
            os.kill(pid, signal.SIGSTOP)
            answers: list[tuple[int, Any]] = []
            asking = [
                threading.Thread(target=lambda: answers.append(site.ask("/api/campaigns"))) for _ in range(THREADS)
            ]
            for one in asking:
                one.start()
            status, told = site.ask("/api/health")
            for one in asking:
                one.join()
            assert (status, told["database"], told["redis"]) == (503, False, True)
            assert "database" in told["reason"]
            # All of them end while it is still frozen, so nobody waited for it to come back.
            assert [code for code, _ in answers] == [503] * THREADS
            os.kill(pid, signal.SIGCONT)
            eventually(lambda: site.ask("/api/campaigns")[0] == 200, "well again")
        finally:
            os.kill(pid, signal.SIGCONT)
            service.terminate()
            service.wait(30)


def test_asking_takes_no_longer_than_promised_however_many_are_silent() -> None:
    silent = threading.Event()
    probes = {name: Probe(silent.wait) for name in "abefgh"} | {"c": Probe(lambda: None), "d": Probe(lambda: 1 / 0)}
    began = time.monotonic()
    assert ask_all(probes, 5) == {name: name == "c" for name in probes}
    assert time.monotonic() - began < 40
    assert probes["a"].begin() is probes["a"].begin()
    silent.set()
    assert probes["a"].begin().ended.wait(60)
    eventually(lambda: ask_all(probes, 1)["a"], "it answers")
