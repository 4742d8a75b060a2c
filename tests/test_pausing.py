"""Pause, resume and cancel while real workers send at full speed, counted at the SMTP server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from app.campaigns.cancelling import skip_rest
from app.campaigns.halting import cancel_campaign, pause_campaign, resume_campaign, wait_until_quiet
from app.campaigns.lifecycle import find_campaign
from app.config import Settings
from app.db import Db
from app.queues.broker import redis_client
from tests.sending import add_list, add_people, add_test_server, draft, expand, start
from tests.smtp_faults import Fault
from tests.smtp_server import SmtpServer
from tests.working import WorkerProcess, eventually

pytestmark = pytest.mark.slow

PEOPLE = 4000
#: For one that will be killed. Another may stand still for a while, and would be taken for dead.
QUICK = {"LEASE_SECONDS": "5"}
#: Long enough for a mail that was on its way to arrive.
AFTERWARDS = 0.5


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Iterator[Settings]:
    here = replace(settings, redis_url=f"{redis_server}?db=12", send_batch_size=400)
    client = redis_client(here.redis_url)
    client.flushdb()
    yield here
    client.flushdb()
    client.close()


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    # Slow enough that the campaign is not over before it is paused, however late this process gets its turn.
    with SmtpServer(plan=lambda event: Fault(delay=0.005) if event.verb == "DOT" else None) as server:
        yield server


@pytest.fixture
def campaign(db: Db, here: Settings, server: SmtpServer) -> int:
    """A campaign, expanded and ready to be sent."""
    add_list(db, "all", add_people(db, PEOPLE))
    add_test_server(server)
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, here, campaign_id)
    return campaign_id


def sender(here: Settings, number: int, **environ: str) -> WorkerProcess:
    name = f"send_{number:02}"
    return WorkerProcess(here, "--queues", "send", "--threads", "4", "--sleep", "0.1", name=name, **environ)


def states(db: Db, campaign_id: int) -> dict[str, int]:
    found = db.rows("SELECT state, COUNT(*) FROM recipients WHERE campaign_id = ? GROUP BY state", campaign_id)
    return {str(state): int(count) for state, count in found}


def broken_off(db: Db) -> int:
    """Batches of which some were sent and the rest was handed back."""
    return int(db.value("SELECT COUNT(*) FROM batches WHERE state = 'ready' AND sent > 0 AND pending > 0"))


def test_no_mail_is_accepted_after_a_pause_and_all_are_sent_once_after_it(
    db: Db, here: Settings, server: SmtpServer, campaign: int
) -> None:
    with sender(here, 0), sender(here, 1):
        for goal in (300, 1200, 2000):
            assert server.wait_for(goal, 60)
            assert pause_campaign(db, campaign).changed
            assert wait_until_quiet(db, campaign, 20).batches == 0
            accepted = len(server.mails)
            assert states(db, campaign)["sent"] == accepted, "every answer is written down"
            assert broken_off(db), "nobody waited for the end of a batch"
            time.sleep(AFTERWARDS)
            assert len(server.mails) == accepted < PEOPLE
            assert resume_campaign(db, campaign, db.now_ms()).changed
        eventually(lambda: find_campaign(campaign).status == "sent", "the campaign is sent")
    assert sorted(server.counts().values()) == [1] * PEOPLE
    assert states(db, campaign) == {"sent": PEOPLE}
    assert server.violations == []


def test_a_worker_killed_between_pauses_costs_nobody_a_mail_and_gives_nobody_two(
    db: Db, here: Settings, server: SmtpServer, campaign: int
) -> None:
    with ExitStack() as stack:
        workers = [stack.enter_context(sender(here, 0, **QUICK)), stack.enter_context(sender(here, 1))]
        for number, goal in enumerate((500, 1500)):
            assert server.wait_for(goal, 60)
            pause_campaign(db, campaign)
            # One whose mails are with the server when it dies: nobody can say what became of them.
            workers[0].kill()
            workers[0] = stack.enter_context(sender(here, 10 + number, **QUICK))
            assert wait_until_quiet(db, campaign, 60).batches == 0, "its leases are settled by the sweep"
            accepted = len(server.mails)
            time.sleep(AFTERWARDS)
            assert len(server.mails) == accepted
            assert resume_campaign(db, campaign, db.now_ms()).changed
        eventually(lambda: find_campaign(campaign).status == "sent", "the campaign is sent", 90)
    found = states(db, campaign)
    assert max(server.counts().values()) == 1
    assert found.get("unknown", 0) <= 2 * 4, "a mail for each connection of each that was killed"
    assert found["sent"] + found.get("unknown", 0) == PEOPLE
    unknown = {str(email) for (email,) in db.rows(
        "SELECT s.email FROM recipients r JOIN subscribers s ON s.id = r.subscriber_id WHERE r.state = 'unknown'"
    )}  # fmt: skip
    assert set(server.counts()) | unknown == {f"p{i}@example.test" for i in range(1, PEOPLE + 1)}


def test_no_mail_is_accepted_after_a_cancel_and_the_rest_is_skipped(
    db: Db, here: Settings, server: SmtpServer, campaign: int
) -> None:
    with sender(here, 0), sender(here, 1):
        assert server.wait_for(500)
        cancel_campaign(db, campaign, db.now_ms())
        assert wait_until_quiet(db, campaign, 20).batches == 0
        skip_rest(db, campaign, db.now_ms(), 60)
        eventually(lambda: "pending" not in states(db, campaign), "what the workers' own sweeps skip, too")
        accepted = len(server.mails)
        assert states(db, campaign) == {"sent": accepted, "skipped": PEOPLE - accepted}
        time.sleep(AFTERWARDS)
    assert len(server.mails) == accepted < PEOPLE
    assert max(server.counts().values()) == 1
    assert find_campaign(campaign).status == "cancelled"


def test_leases_that_a_dead_worker_left_are_skipped_by_the_sweep(
    db: Db, here: Settings, server: SmtpServer, campaign: int
) -> None:
    with sender(here, 0, **QUICK) as worker:
        assert server.wait_for(300)
        worker.kill()
    cancel_campaign(db, campaign, db.now_ms())
    assert wait_until_quiet(db, campaign, 0).batches > 0, "they are in hand until it is proven that their owner is dead"
    with sender(here, 1):
        eventually(lambda: "pending" not in states(db, campaign), "all are skipped or settled")
    found = states(db, campaign)
    assert found["skipped"] + found["sent"] + found.get("unknown", 0) == PEOPLE
    assert max(server.counts().values()) == 1
