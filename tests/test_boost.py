"""bin/boost-campaign on a real supervisord: workers of one campaign's own come, stay, and go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.campaigns.boosts import want_boost
from app.config import Settings
from app.db import Db
from app.models.tables import Campaign, Server
from app.queues.keys import waiting
from tests.home_stack import HomeStack, home_stack
from tests.sending import add_list, add_people, add_test_server, draft, expand, start
from tests.smtp_faults import Event, Fault, delayed
from tests.smtp_server import SmtpServer
from tests.working import eventually

#: No common worker: whatever is sent, a boost has sent.
TABLE = '[[queue]]\nname = "send"\nprocesses = 0\nthreads = 2\ntimeout = 20\npoll = 0.1\nmemory = 512\n'
PEOPLE = 1500
SECONDS = 90

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


class Slow:
    """A server that takes its time until told to hurry."""

    def __init__(self) -> None:
        self.hurry = threading.Event()

    def __call__(self, event: Event) -> Fault | None:
        return delayed(1.0) if event.verb == "DOT" and not self.hurry.is_set() else None


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def server(slow: Slow) -> Iterator[SmtpServer]:
    with SmtpServer(plan=slow) as server:
        yield server


@pytest.fixture
def stack(short_directory: Path, database_url: str, redis_server: str, db: Db) -> Iterator[HomeStack]:
    url = f"{redis_server}?db=11"
    redis.Redis.from_url(url).flushdb()
    with home_stack(short_directory, TABLE, DATABASE_URL=database_url, REDIS_URL=url, SEND_BATCH_SIZE="20") as stack:
        stack.run("supervisor-manager", "start")
        yield stack


@pytest.fixture
def campaigns(stack: HomeStack, server: SmtpServer, db: Db) -> tuple[int, int]:
    """Two sending campaigns with an audience of their own each."""
    add_test_server(server)
    return tuple(sending(stack.settings, db, name) for name in ("one", "two"))  # type: ignore[return-value]


def sending(settings: Settings, db: Db, name: str) -> int:
    add_list(db, name, add_people(db, PEOPLE, prefix=name))
    campaign_id = draft(db, [name])
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def test_workers_of_one_campaign_come_stay_and_go(
    stack: HomeStack, campaigns: tuple[int, int], server: SmtpServer, slow: Slow, db: Db
) -> None:
    mine, other = campaigns
    found = stack.json("boost-campaign", str(mine), "3")

    assert {k: found[k] for k in ("id", "before", "workers", "running")} == {
        "id": mine, "before": 0, "workers": 3, "running": 3,
    }  # fmt: skip
    three = stack.pids("campaign_")
    assert set(three) == {f"campaign_{mine}-{k}" for k in (1, 2, 3)}
    assert sorted(stack.pgrep(f"--queues campaign_{mine} ")) == sorted(three.values())
    assert all("--memory 256 " in command(pid) for pid in three.values())
    eventually(lambda: len({mail.connection for mail in server.mails}) >= 4, "several workers send", SECONDS)

    assert f"campaign {mine} has 3 workers already" in stack.run("boost-campaign", str(mine), "3")
    assert stack.pids("campaign_") == three

    assert len(stack.json("boost-campaign", str(mine), "5")["started"]) == 2
    five = stack.pids("campaign_")
    assert len(five) == 5
    assert three.items() <= five.items()

    assert len(stack.json("boost-campaign", str(mine), "2")["leaving"]) == 3
    eventually(lambda: len(stack.pgrep(f"--queues campaign_{mine} ")) == 2, "three have gone", SECONDS)
    two = stack.pids("campaign_")
    assert len(two) == 2
    assert two.items() <= five.items()

    assert "2 workers finish" in stack.run("boost-campaign", str(mine), "--off")
    eventually(lambda: not stack.pgrep(f"--queues campaign_{mine} "), "all have gone", SECONDS)
    assert Campaign.get_by_id(mine).status == "sending"

    stack.run("boost-campaign", str(mine), "4")
    slow.hurry.set()
    eventually(lambda: Campaign.get_by_id(mine).status == "sent", "the campaign is sent", SECONDS)
    eventually(lambda: not stack.pgrep(f"--queues campaign_{mine} "), "a finished campaign keeps no worker", SECONDS)
    eventually(lambda: all(p.state == "STOPPED" for p in stack.processes()), "nor does it get another", SECONDS)
    counts = server.counts()
    assert len(counts) == PEOPLE
    assert set(counts.values()) == {1}, "nobody got it twice"
    assert server.violations == []
    assert db.value("SELECT SUM(sent) FROM batches WHERE campaign_id = ?", other) == 0
    assert Campaign.get_by_id(mine).boost == 0
    assert redis.Redis.from_url(stack.environ["REDIS_URL"]).llen(waiting(f"campaign_{mine}")) == 0


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


@pytest.mark.parametrize("status", ["paused", "cancelled"])
def test_they_go_when_the_campaign_is_not_sending_any_more(
    stack: HomeStack, campaigns: tuple[int, int], status: str, db: Db
) -> None:
    mine, _ = campaigns
    stack.run("boost-campaign", str(mine), "2")
    db.run("UPDATE campaigns SET status = ? WHERE id = ?", status, mine)

    eventually(lambda: not stack.pgrep(f"--queues campaign_{mine} "), "they have gone", SECONDS)

    eventually(lambda: Campaign.get_by_id(mine).boost == 0, "the wish is forgotten", SECONDS)
    assert f"it is {status}" in stack.run("boost-campaign", str(mine), "2", code=1)


def test_a_manager_brings_about_what_is_wanted_and_clears_up(
    stack: HomeStack, campaigns: tuple[int, int], db: Db
) -> None:
    mine, _ = campaigns
    want_boost(db, mine, 2)
    stack.run("queue-manager", "--once")
    eventually(lambda: len(stack.pids(f"campaign_{mine}-")) == 2, "the manager starts them", SECONDS)
    two = stack.pids("campaign_")

    assert len(stack.json("boost-campaign", str(mine), "3")["started"]) == 1
    stack.run("queue-manager", "--once")
    three = stack.pids("campaign_")
    assert len(three) == 3, "nothing is doubled"
    assert two.items() <= three.items()

    db.run("UPDATE campaigns SET status = 'cancelled' WHERE id = ?", mine)
    eventually(
        lambda: all(p.state == "STOPPED" for p in stack.processes() if p.group.startswith("campaign_")),
        "they have gone", SECONDS,
    )  # fmt: skip
    stack.run("queue-manager", "--once")
    assert [p for p in stack.processes() if p.group.startswith("campaign_")] == []
    assert list(stack.settings.conf_d.glob("campaign_*")) == []


def test_what_cannot_be_boosted_is_said(stack: HomeStack, campaigns: tuple[int, int], db: Db) -> None:
    mine, _ = campaigns
    assert "there is no campaign 99" in stack.run("boost-campaign", "99", "2", code=1)
    assert "COUNT=0 is not allowed" in stack.run("boost-campaign", str(mine), "0", code=2)
    assert "either how many workers or --off" in stack.run("boost-campaign", str(mine), code=2)
    assert "has no workers of its own" in stack.run("boost-campaign", str(mine), "--off")
    fresh = draft(db, ["one"])
    assert f"it is a draft; first bin/mailcrew campaigns schedule {fresh}" in stack.run(
        "boost-campaign", str(fresh), "2", code=1
    )
    db.run("UPDATE batches SET state = 'done' WHERE campaign_id = ?", mine)
    assert "every recipient is done" in stack.run("boost-campaign", str(mine), "2", code=1)
    assert stack.pids("campaign_") == {}


def test_more_than_fit_are_refused_with_the_number_that_fits(
    stack: HomeStack, campaigns: tuple[int, int], db: Db
) -> None:
    mine, _ = campaigns
    refused = stack.run("boost-campaign", str(mine), "999", code=1)
    assert "workers fit, limited by" in refused
    Server.update(max_connections=5).execute()
    refused = stack.run("boost-campaign", str(mine), "3", code=1)
    assert "COUNT=3 is too much: 2 workers fit, limited by connections its SMTP servers allow" in refused
    assert (Campaign.get_by_id(mine).boost, stack.pids("campaign_")) == (0, {})

    assert stack.json("boost-campaign", str(mine), "2")["running"] == 2


def test_without_supervisord_nothing_is_promised(stack: HomeStack, campaigns: tuple[int, int]) -> None:
    mine, _ = campaigns
    stack.run("supervisor-manager", "stop")

    assert "supervisord does not run" in stack.run("boost-campaign", str(mine), "2", code=1)

    assert Campaign.get_by_id(mine).boost == 0
    assert "has no workers of its own" in stack.run("boost-campaign", str(mine), "--off")
