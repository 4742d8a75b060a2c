"""The clock through an outage: Redis goes and comes, schedulers are doubled; campaigns start once all the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.campaigns.lifecycle import schedule_campaign
from app.db import Db
from tests.deployed import TABLE, Installation, SlowServer, installed
from tests.sending import NOW, add_list, add_people, add_test_server, draft
from tests.services import need
from tests.working import MortalRedis, eventually

PEOPLE = 60
SECOND = """
[[service]]
name = "second-clock"
command = "{python} {root}/bin/scheduler"
priority = 910
"""


@pytest.fixture
def outside(short_directory: Path) -> Iterator[MortalRedis]:
    """A Redis that is not ours to start: REDIS_URL names it."""
    need("redis-server")
    with MortalRedis(Path(tempfile.mkdtemp(dir=short_directory))) as redis:
        yield redis


@pytest.fixture
def installation(short_directory: Path, database_url: str, outside: MortalRedis) -> Iterator[Installation]:
    with installed(Path(tempfile.mkdtemp(dir=short_directory)), database_url, TABLE + SECOND) as made:
        made.environ["REDIS_URL"] = outside.url
        yield made


def due(db: Db, server: SlowServer, name: str) -> int:
    add_list(db, name, add_people(db, PEOPLE, name))
    if db.value("SELECT COUNT(*) FROM servers") == 0:
        add_test_server(server)
    campaign_id = draft(db, [name])
    schedule_campaign(db, campaign_id, NOW, NOW)
    return campaign_id


def started(installation: Installation, campaign_id: int) -> int:
    """How often it was started, by the workers' own words."""
    said = '"event": "campaign started"'
    lines = installation.log("periodic_00").splitlines()
    return sum(said in line and f'"campaign_id": {campaign_id}' in line for line in lines)


def expanded(installation: Installation, campaign_id: int) -> int:
    lines = installation.log("expand_00").splitlines()
    return sum('"event": "expansion starts"' in line and f'"campaign_id": {campaign_id}' in line for line in lines)


def finished(db: Db, campaign_id: int) -> bool:
    return bool(db.value("SELECT COUNT(*) FROM campaigns WHERE id = ? AND status = 'sent'", campaign_id))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_clocks_and_an_outage_of_redis_start_each_campaign_once(
    db: Db, installation: Installation, outside: MortalRedis
) -> None:
    clocks = ("scheduler", "second-clock")
    with SlowServer(pace=0) as server:
        first = due(db, server, "first")
        installation.run("supervisor-manager", "start")
        eventually(lambda: finished(db, first), "two clocks tick and it is sent", 90)
        pids = installation.pids()

        outside.kill()
        missed = due(db, server, "missed")
        # They notice at the next full minute, and have missed it then.
        eventually(lambda: all("waiting for Redis" in installation.log(c) for c in clocks), "both wait", 100)
        states = {p: installation.pids().get(p) for p in clocks}
        assert states == {p: pids[p] for p in clocks}, "they wait in the same process: nothing to give up"
        assert db.value("SELECT status FROM campaigns WHERE id = ?", missed) == "scheduled"

        outside.start()
        eventually(lambda: finished(db, missed), "the first tick makes up for it", 90)
        for campaign_id in (first, missed):
            eventually(lambda: started(installation, campaign_id), "what it said reaches its log")  # noqa: B023
            eventually(lambda: expanded(installation, campaign_id), "and this")  # noqa: B023
            assert (started(installation, campaign_id), expanded(installation, campaign_id)) == (1, 1)
        counts = server.counts()
        assert len(counts) == 2 * PEOPLE
        assert set(counts.values()) == {1}

        outside.kill()
        # With Redis away too, the default action of SIGTERM ends it.
        assert installation.run("supervisor-manager", "stop", "scheduler", "--wait", "60") == "stopped: scheduler\n"
        outside.start()
