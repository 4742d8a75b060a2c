"""/metrics of a whole stack: real workers under a real supervisord, one of them killed, the web service restarted."""

from __future__ import annotations

import os
import signal
import urllib.request
from pathlib import Path

import pytest

from app.db import Db
from tests.deployed import TABLE, SlowServer
from tests.home_stack import HomeStack, home_stack
from tests.ports import free_port
from tests.scraping import Scraped
from tests.sending import add_list, add_people, add_test_server, draft, start
from tests.services import need
from tests.working import eventually

WEB = """
[[service]]
name = "web"
command = "{python} {root}/bin/web"
priority = 800

[[service]]
name = "queue-manager"
command = "{python} {root}/bin/queue-manager"
priority = 950
"""


def scrape(stack: HomeStack, token: str) -> Scraped:
    request = urllib.request.Request(f"http://{stack.environ['HTTP_BIND']}/metrics")
    request.add_header("Authorization", f"Bearer {token}")
    # What Prometheus 2 and 3 send.
    request.add_header("Accept", "application/openmetrics-text;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return Scraped(answer.read().decode())


def is_up(stack: HomeStack, token: str) -> bool:
    try:
        return bool(scrape(stack, token).families)
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_whole_stack_tells_what_its_database_holds(db: Db, database_url: str, short_directory: Path) -> None:
    need("redis-server")
    # More than two would be right for so many mails, and are no matter here.
    table = TABLE.replace("processes = 2", "processes = 2\nmax = 4\ntasks_per_worker = 100000") + WEB
    bind = f"127.0.0.1:{free_port()}"
    with (
        SlowServer(pace=0.5) as server,
        home_stack(short_directory, table, DATABASE_URL=database_url, HTTP_BIND=bind, LEASE_SECONDS="5") as stack,
    ):
        add_test_server(server)
        add_list(db, "all", add_people(db, 1500))
        campaign = draft(db, ["all"])
        start(db, campaign)
        token = stack.run("mailcrew", "tokens", "create", "prometheus", "--scope", "read").strip()
        stack.run("supervisor-manager", "start")
        assert server.wait_for(100)
        owners = "SELECT COUNT(DISTINCT journal) FROM batches WHERE state = 'leased'"
        eventually(lambda: db.value(owners) == 2, "both have work in hand")
        os.kill(stack.pids("send")["send"], signal.SIGKILL)
        eventually(lambda: scrape(stack, token).value("mailcrew_leases_recovered_total"), "the sweep has settled", 150)
        server.calm.set()
        eventually(lambda: db.value("SELECT status FROM campaigns WHERE id = ?", campaign) == "sent", "it is sent", 90)
        eventually(lambda: scrape(stack, token).value("mailcrew_campaigns", status="sent") == 1, "it says so", 150)

        found = scrape(stack, token)
        sums = db.row("SELECT SUM(attempts), SUM(sent), SUM(failed), SUM(deferred), SUM(unknown) FROM deliveries")
        for what, count in zip(("attempted", "sent", "failed", "deferred", "unknown"), sums or (), strict=True):
            assert found.value(f"mailcrew_mails_{what}_total", server="sink") == count, what
        assert int((sums or (0, 0))[1]) >= len(server.counts()) - 8, "the connections of the killed one may be in doubt"
        crew = {"periodic": 1, "expand": 1, "send": 2}
        eventually(lambda: scrape(stack, token).values("mailcrew_workers", "queue") == crew, "the dead is gone", 150)
        assert (found.value("mailcrew_redis_up"), found.value("mailcrew_database_up")) == (1, 1)
        assert found.value("mailcrew_workers_max", queue="send") == 4
        assert (found.value("mailcrew_workers_wanted", queue="send") or 0) >= 2

        stack.run("supervisor-manager", "restart", "web")
        eventually(lambda: is_up(stack, token), "the web service is back")
        after = scrape(stack, token).counters()
        assert {name: after[name] for name, value in found.counters().items() if after[name] < value} == {}
        assert after["mailcrew_mails_sent_total", frozenset({("server", "sink")})] == (sums or (0, 0))[1]
        stack.run("supervisor-manager", "stop")
