"""Progress: the numbers add up at every moment, the speed and the rest of the time follow from them."""

from __future__ import annotations

import itertools
import threading
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from app.campaigns.expand_task import expand_campaign
from app.campaigns.lifecycle import find_campaign
from app.campaigns.progress import Progress, progress_of, progress_of_all
from app.config import Settings
from app.db import Db
from app.mail.senders import pause_sender, resume_sender
from app.mail.servers import add_server
from app.models.tables import Batch, Campaign, Expansion
from tests.sending import NOW, add_list, add_people, draft, expand, send_all, start
from tests.smtp_faults import Event, Fault, reply
from tests.smtp_server import SmtpServer
from tests.statements import recorded


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """An expanded campaign to 250 people: batches of 100, 100 and 50."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 250))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    Campaign.update(started_at=NOW).execute()
    Batch.update(ready_at=NOW).execute()
    return campaign_id


def seen(db: Db, campaign_id: int, now: int = NOW) -> Progress:
    progress = progress_of(db, find_campaign(campaign_id), now)
    parts = (progress.pending, progress.sending, progress.sent, progress.failed, progress.skipped, progress.unknown)
    assert sum(parts) == progress.recipients
    assert min(parts) >= 0
    assert progress.done == progress.recipients - progress.pending - progress.sending
    return progress


BATCHES = st.lists(
    st.tuples(st.sampled_from(["ready", "leased", "done"]), *[st.integers(0, 100)] * 5), min_size=1, max_size=6
)


@given(BATCHES)
@how(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_numbers_add_up_whatever_the_batches_say(
    db: Db, campaign: int, batches: list[tuple[str, int, int, int, int, int]]
) -> None:
    Batch.delete().execute()
    for number, (state, pending, *done) in enumerate(batches, 1):
        sent, failed, skipped, unknown = done
        Batch.create(
            campaign_id=campaign, number=number, state=state, ready_at=NOW, pending=0 if state == "done" else pending,
            sent=sent, failed=failed, skipped=skipped, unknown=unknown,
        )  # fmt: skip
    progress = seen(db, campaign)
    assert progress.sent == sum(batch[2] for batch in batches)
    assert progress.sending == sum(batch[1] for batch in batches if batch[0] == "leased")
    assert progress.pending == sum(batch[1] for batch in batches if batch[0] == "ready")


def test_the_numbers_are_those_of_the_recipients_while_and_after_sending(
    db: Db, settings: Settings, campaign: int
) -> None:
    kinds = itertools.cycle(["250 ok", "550 no", "450 later"])
    stop = threading.Event()
    looks: list[Progress] = []

    def plan(event: Event) -> Fault | None:
        return None if event.verb != "RCPT" or (text := next(kinds)).startswith("250") else reply(text)

    def watch() -> None:
        while not stop.wait(0.01):
            looks.append(seen(db, campaign))
        db.close()

    with SmtpServer(plan=plan) as server:
        db.run("UPDATE servers SET port = ?", server.port)
        watcher = threading.Thread(target=watch)
        watcher.start()
        send_all(db, settings, threads=2)
        stop.set()
        watcher.join()
    assert {look.recipients for look in looks} == {250}
    last = seen(db, campaign)
    counted: dict[str, int] = dict(db.rows("SELECT state, COUNT(*) FROM recipients GROUP BY state"))
    assert counted == {"sent": last.sent, "failed": last.failed, "pending": last.pending}
    assert [look.done for look in looks] == sorted(look.done for look in looks)


def finish_batch(db: Db, number: int, at: int) -> None:
    """As if a worker had sent all of a batch at an instant."""
    sent = db.value("SELECT pending FROM batches WHERE number = ?", number)
    db.run(
        "UPDATE batches SET state = 'done', sent = pending, pending = 0, finished_at = ? WHERE number = ?", at, number
    )
    tried(db, at, sent)


def tried(db: Db, at: int, sent: int, failed: int = 0) -> None:
    """As if so many mails had been recorded in the minute of an instant."""
    db.run(
        "INSERT INTO deliveries (server_id, minute, campaign_id, attempts, sent, failed) "
        "SELECT COALESCE(MAX(server_id), 0) + 1, ?, 1, ?, ?, ? FROM deliveries",
        at // 60_000, sent + failed, sent, failed,
    )  # fmt: skip


def test_the_speed_is_that_of_this_minute_and_the_last_and_the_eta_follows(db: Db, campaign: int) -> None:
    finish_batch(db, 1, NOW + 1000)
    progress = seen(db, campaign, NOW + 5000)
    assert (progress.rate_per_second, progress.eta_seconds) == (20.0, 7.5)
    assert seen(db, campaign, NOW + 10_000).rate_per_second == 10.0
    stalled = seen(db, campaign, NOW + 180_000)
    assert (stalled.rate_per_second, stalled.eta_seconds) == (0.0, None)


def test_what_an_open_batch_has_sent_counts_at_once(db: Db, campaign: int) -> None:
    # One mail of each batch waits for its time for an hour: no batch ends.
    for number, sent in ((1, 90), (2, 60)):
        db.run("UPDATE batches SET sent = ?, pending = pending - ? WHERE number = ?", sent, sent, number)
    tried(db, NOW + 10_000, 100, failed=20)
    tried(db, NOW + 70_000, 30)
    minute = NOW // 60_000 * 60_000
    later = minute + 90_000
    assert seen(db, campaign, later).rate_per_second == round(150 / ((later - NOW) / 1000), 1)
    assert seen(db, campaign, minute + 170_000).rate_per_second == round(30 / 110, 1), "the first minute is over"


def test_a_fast_campaign_shows_the_speed_of_its_last_seconds(db: Db, campaign: int) -> None:
    for number in range(10, 30):
        Batch.create(
            campaign_id=campaign, number=number, state="done", ready_at=NOW, pending=0, sent=50, failed=0,
            finished_at=NOW + 55_000,
        )  # fmt: skip
    assert seen(db, campaign, NOW + 60_000).rate_per_second == 100.0


def test_limits_that_are_used_up_are_part_of_the_estimate(db: Db, campaign: int) -> None:
    db.run("UPDATE servers SET per_minute = 60")
    tried(db, NOW + 1000, 50)
    # At 10 a second 250 would take 25 s; the limit lets 60 go in each minute.
    assert seen(db, campaign, NOW + 5000).eta_seconds == 240.0
    Campaign.update(held_until=NOW + 35_000, held_by="minute limit of server sink").execute()
    assert seen(db, campaign, NOW + 5000).eta_seconds == 30 + 250.0
    db.run("UPDATE servers SET per_minute = NULL, per_day = 100000")
    assert seen(db, campaign, NOW + 5000).eta_seconds == round(30 + 250 / (100_000 / 86_400), 1)


def test_the_speed_of_an_ended_campaign_is_that_of_its_whole_run(db: Db, campaign: int) -> None:
    for number in (1, 2, 3):
        finish_batch(db, number, NOW + number * 10_000)
    Campaign.update(status="sent", finished_at=NOW + 50_000).execute()
    ended = seen(db, campaign, NOW + 10_000_000)
    assert (ended.rate_per_second, ended.eta_seconds, ended.pending) == (5.0, None, 0)


def test_many_that_are_not_sending_cost_as_many_queries_as_one(
    db: Db, campaign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [draft(db, ["all"]) for _ in range(5)]
    every = [find_campaign(id_) for id_ in (*others, campaign)]
    each = [progress_of(db, one, NOW) for one in every]
    asked = recorded(db, monkeypatch)
    assert progress_of_all(db, every, NOW) == each
    first = len(asked)
    assert progress_of_all(db, [*every[:1], every[-1]], NOW) == [each[0], each[-1]]
    assert len(asked) == 2 * first
    assert progress_of_all(db, [], NOW) == []


def test_before_the_start_there_is_nothing_to_tell(db: Db, campaign: int) -> None:
    fresh = seen(db, draft(db, ["all"]))
    assert (fresh.status, fresh.recipients, fresh.rate_per_second, fresh.eta_seconds) == ("draft", 0, 0.0, None)
    assert not fresh.expanding


def test_while_it_expands_nobody_can_tell_how_long_it_takes(db: Db, campaign: int) -> None:
    finish_batch(db, 1, NOW)
    Expansion.update(state="running").execute()
    progress = seen(db, campaign, NOW + 1000)
    assert progress.expanding
    assert progress.rate_per_second > 0
    assert progress.eta_seconds is None


def test_what_blocks_a_campaign_is_said_in_one_phrase(db: Db, campaign: int) -> None:
    assert seen(db, campaign).blocked_by is None, "there are batches ready"
    Batch.update(ready_at=NOW + 90_000).execute()
    assert seen(db, campaign).blocked_by == "recipients whose servers said later; the next are tried in 90 s"
    db.run("UPDATE servers SET cooldown_until = ?, cooldown_reason = '421 busy'", NOW + 30_000)
    assert seen(db, campaign).blocked_by == "server sink: 421 busy, tried again at 2026-09-21 14:13:50 +00:00"
    Batch.update(state="leased").where(Batch.number == 1).execute()
    assert seen(db, campaign).blocked_by is None, "one batch is being sent"
    Expansion.update(error="OperationalError: disk full").execute()
    assert "disk full" in str(seen(db, campaign).blocked_by)
    Campaign.update(status="paused").execute()
    assert seen(db, campaign).blocked_by is None


def hold(db: Db, by: str, ms: int) -> None:
    Campaign.update(held_until=NOW + ms, held_by=by).execute()


def test_a_limit_that_holds_a_campaign_is_named_with_the_time_in_its_servers_zone(db: Db, campaign: int) -> None:
    db.run("UPDATE servers SET timezone = 'Asia/Singapore'")
    midnight = int(datetime(2026, 9, 22, tzinfo=ZoneInfo("Asia/Singapore")).timestamp() * 1000)
    hold(db, "day limit of server sink", midnight - NOW)
    assert seen(db, campaign).blocked_by == "day limit of server sink, free at 2026-09-22 00:00 +08:00"
    Batch.update(state="leased").where(Batch.number == 1).execute()
    assert "day limit" in str(seen(db, campaign).blocked_by), "what is in hand ends soon"
    hold(db, "second limit of server sink", 900)
    assert seen(db, campaign).blocked_by is None, "it goes on, at the pace of the limit"
    Batch.update(state="ready").execute()
    assert seen(db, campaign).blocked_by == "second limit of server sink, free at 2026-09-21 22:13:21 +08:00"
    hold(db, "second limit of server sink", -1)
    assert seen(db, campaign).blocked_by is None


def test_a_sender_that_is_paused_is_named_with_the_reason(db: Db, campaign: int) -> None:
    hold(db, "day limit of server sink", 90_000)
    pause_sender(db, "News@shop.TEST", "domain is on a blocklist", NOW)
    assert seen(db, campaign).blocked_by == "sender news@shop.test is paused: domain is on a blocklist"
    resume_sender(db, "news@shop.test")
    assert "sender" not in str(seen(db, campaign).blocked_by)


def test_servers_that_are_all_paused_are_named_with_the_way_back(db: Db, campaign: int) -> None:
    db.run("UPDATE servers SET state = 'paused'")
    Batch.update(ready_at=NOW + 90_000).execute()
    assert seen(db, campaign).blocked_by == "server sink is paused: bin/mailcrew servers change sink --resume"


def test_a_server_in_trouble_is_not_blamed_while_another_can_send(db: Db, campaign: int) -> None:
    other = add_server(name="other", host="127.0.0.1", port=26, tls="none", now=NOW)
    db.run("INSERT INTO campaign_servers (campaign_id, server_id) VALUES (?, ?)", campaign, other)
    db.run("UPDATE servers SET cooldown_until = ?, cooldown_reason = '421 busy' WHERE name = 'sink'", NOW + 30_000)
    Batch.update(ready_at=NOW + 90_000).execute()
    assert "said later" in str(seen(db, campaign).blocked_by)


def test_a_campaign_whose_servers_are_gone_says_so(db: Db, campaign: int) -> None:
    db.run("DELETE FROM campaign_servers")
    Batch.update(ready_at=NOW + 30_000).execute()
    blocked = str(seen(db, campaign).blocked_by)
    assert "server" in blocked
    assert "said later" not in blocked


@pytest.mark.parametrize("error", [redis.ConnectionError("gone"), redis.TimeoutError("late")])
def test_redis_being_away_is_no_failure_of_the_expansion(db: Db, settings: Settings, error: Exception) -> None:
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 50))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)

    def no_tickets() -> None:
        raise error

    expand_campaign(db, settings, campaign_id, threading.Event(), no_tickets)
    expansion = Expansion.get_by_id(campaign_id)
    assert (expansion.state, expansion.failures, expansion.error) == ("done", 0, None)


def test_an_expansion_that_ended_well_after_a_failure_is_not_reported_any_more(
    db: Db, settings: Settings, campaign: int
) -> None:
    Expansion.update(state="running", error="OperationalError: once", failures=1, lease_until=0).execute()
    expand(db, settings, campaign)
    assert Expansion.get_by_id(campaign).state == "done"
    assert seen(db, campaign).blocked_by is None
