"""Expansion: each person once, exact batches, resumable at the exact step, one writer."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from app.campaigns.expansion import LEASE_MS, MAX_FAILURES, Expander, Superseded
from app.campaigns.progress import progress_of
from app.campaigns.sweep import sweep
from app.config import Settings
from app.db import Db
from app.lists.memberships import unsubscribe
from app.mail.servers import add_server
from app.models.tables import Batch, Campaign, Expansion, Recipient
from tests.sending import NOW, add_list, add_people, draft, expand, join, start


@pytest.fixture
def campaign(db: Db) -> int:
    """A started campaign over three overlapping lists of 500 people in all."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    people = add_people(db, 520)
    add_list(db, "a", people[:300])
    add_list(db, "b", people[200:450])
    list_c = add_list(db, "c", people[100:500])
    join(db, list_c, people[500:], "unsubscribed")
    campaign_id = draft(db, ["a", "b", "c"])
    start(db, campaign_id)
    return campaign_id


def expander(db: Db, campaign_id: int, batch_size: int = 64, send_batch_size: int = 10) -> Expander:
    return Expander(db, campaign_id, batch_size=batch_size, send_batch_size=send_batch_size)


def check_exact(db: Db, campaign_id: int, people: int) -> None:
    """Everyone once, and the counters of the batches say what the rows say."""
    assert Recipient.select().where(Recipient.campaign_id == campaign_id).count() == people
    counted: dict[int, int] = dict(
        db.rows("SELECT batch, COUNT(*) FROM recipients WHERE campaign_id = ? GROUP BY batch", campaign_id)
    )
    assert {b.number: b.pending for b in Batch.select().where(Batch.campaign_id == campaign_id)} == counted


def test_each_person_on_several_lists_becomes_one_recipient(db: Db, settings: Settings, campaign: int) -> None:
    expand(db, settings, campaign)
    check_exact(db, campaign, 500)
    expansion = Expansion.get_by_id(campaign)
    assert (expansion.state, expansion.recipients, expansion.scanned) == ("done", 500, 950)


def test_batches_hold_exactly_the_asked_size_but_the_last_of_a_step(db: Db, campaign: int) -> None:
    run = expander(db, campaign, batch_size=64, send_batch_size=10)
    assert run.claim(NOW)
    step = run.step(NOW)
    assert (step.scanned, step.created, step.list_name) == (64, 64, "a")
    assert [b.pending for b in Batch.select().order_by(Batch.number)] == [10] * 6 + [4]


def test_it_goes_on_at_the_exact_step_after_a_crash(db: Db, settings: Settings, campaign: int) -> None:
    first = expander(db, campaign)
    assert first.claim(NOW)
    for _ in range(5):
        first.step(NOW)
    second = expander(db, campaign)
    assert not second.claim(NOW + 1), "the first one's claim has not run out"
    assert second.claim(NOW + LEASE_MS)
    while not second.step(NOW + LEASE_MS).all_done:
        pass
    check_exact(db, campaign, 500)


def test_an_expander_that_was_thought_dead_writes_nothing(db: Db, campaign: int) -> None:
    first, second = expander(db, campaign), expander(db, campaign)
    assert first.claim(NOW)
    first.step(NOW)
    assert second.claim(NOW + LEASE_MS)
    before = Recipient.select().count()
    with pytest.raises(Superseded):
        first.step(NOW + LEASE_MS)
    assert Recipient.select().count() == before
    second.step(NOW + LEASE_MS)


def test_a_step_that_fails_in_the_middle_leaves_nothing_and_is_done_again(
    db: Db, campaign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = expander(db, campaign)
    assert run.claim(NOW)
    with monkeypatch.context() as patch:
        patch.setattr(Expander, "_insert_batches", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.step(NOW)
    assert Recipient.select().count() == 0
    while not run.step(NOW).all_done:
        pass
    check_exact(db, campaign, 500)


def test_after_too_many_failures_in_a_row_the_campaign_fails_with_the_reason(db: Db, campaign: int) -> None:
    now = NOW
    for _ in range(MAX_FAILURES):
        run = expander(db, campaign)
        assert run.claim(now)
        run.fail("disk full", now)
        now += LEASE_MS
    failed = Campaign.get_by_id(campaign)
    assert failed.status == "failed"
    assert "disk full" in str(failed.reason)
    assert not expander(db, campaign).claim(now)


def test_people_who_come_and_go_during_the_run_cause_neither_skip_nor_double(db: Db, campaign: int) -> None:
    everyone = {row[0] for row in db.rows("SELECT id FROM subscribers")}
    stayed = set(everyone)
    run = expander(db, campaign, batch_size=30)
    assert run.claim(NOW)
    chance = random.Random(7)
    newcomers = iter(add_people(db, 60, "new"))
    while not run.step(NOW).all_done:
        gone = chance.choice(sorted(stayed))
        stayed.discard(gone)
        db.run("UPDATE memberships SET status = 'removed' WHERE subscriber_id = ?", gone)
        newcomer = next(newcomers, None)
        if newcomer:
            join(db, 1, [newcomer])
    mailed = [row[0] for row in db.rows("SELECT subscriber_id FROM recipients WHERE campaign_id = ?", campaign)]
    assert len(mailed) == len(set(mailed))
    active_throughout = {
        r[0] for r in db.rows("SELECT subscriber_id FROM memberships WHERE status = 'active'")
    } & stayed
    assert active_throughout <= set(mailed)
    assert len(set(mailed) & set(add_people_ids(db, "new"))) > 0, "those ahead of the cursor are in"


def add_people_ids(db: Db, prefix: str) -> list[int]:
    return [row[0] for row in db.rows("SELECT id FROM subscribers WHERE email_key LIKE ? ORDER BY id", f"{prefix}%")]


def test_the_sweep_restarts_an_expansion_nobody_works_on_and_only_once(
    db: Db, settings: Settings, campaign: int
) -> None:
    restarted: list[int] = []
    for now in (NOW + 1, NOW + LEASE_MS + 1, NOW + LEASE_MS + 2):
        sweep(db, settings.journals, now, settings.lease_seconds, restarted.append)
    assert restarted == [campaign]


def test_a_campaign_without_recipients_is_sent_with_none(db: Db, settings: Settings) -> None:
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "empty", [])
    campaign_id = draft(db, ["empty"], subject="Hello", html="<p>Hi</p>", text="Hi")
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    assert Campaign.get_by_id(campaign_id).status == "sent"


def test_no_query_of_the_expansion_scans_a_whole_table(db: Db, settings: Settings, campaign: int) -> None:
    expand(db, settings, campaign)
    plan = db.rows(
        "EXPLAIN "
        + ("QUERY PLAN " if db.dialect == "sqlite" else "")
        + "SELECT subscriber_id FROM memberships WHERE list_id = ? AND status = ? AND subscriber_id > ? "
        "ORDER BY subscriber_id LIMIT ?",
        1, "active", 5, 100,
    )  # fmt: skip
    text = str(plan)
    assert "memberships_expansion" in text
    assert "SCAN" not in text


def stop_mailing(db: Db, ids: Sequence[int], status: str = "blocked", reason: str | None = "blocked: test") -> None:
    marks = ", ".join("?" * len(ids))
    db.run(f"UPDATE subscribers SET status = ?, status_reason = ? WHERE id IN ({marks})", status, reason, *ids)


def test_whom_nobody_may_mail_is_skipped_with_the_reason(db: Db, settings: Settings, campaign: int) -> None:
    people = add_people_ids(db, "p")
    stop_mailing(db, people[:30:3], "blocked", "blocked: domain rule @x.test")
    stop_mailing(db, people[210:220], "bounced", "bounced: 3 permanent refusals, last 550 no")
    stop_mailing(db, people[460:463], "deleted", None)
    run = expander(db, campaign, batch_size=64)
    assert run.claim(NOW)
    steps = []
    while not (step := run.step(NOW)).all_done:
        steps.append(step)
    rows = db.rows("SELECT reason, COUNT(*) FROM recipients WHERE state = 'skipped' GROUP BY reason ORDER BY reason")
    assert rows == [
        ("blocked: domain rule @x.test", 10),
        ("bounced: 3 permanent refusals, last 550 no", 10),
        ("deleted", 3),
    ]
    assert sum(step.created for step in steps) == Expansion.get_by_id(campaign).recipients == 500
    assert sum(step.skipped for step in steps) == 23
    counted = db.rows(
        "SELECT b.number, b.pending, b.skipped, SUM(r.state = 'pending'), SUM(r.state = 'skipped'), b.state "
        "FROM batches b JOIN recipients r ON r.campaign_id = b.campaign_id AND r.batch = b.number "
        "WHERE b.campaign_id = ? GROUP BY b.number, b.pending, b.skipped, b.state ORDER BY b.number",
        campaign,
    )
    assert all((row[1], row[2]) == (int(row[3]), int(row[4])) for row in counted)
    assert all(row[5] == ("done" if row[2] else "ready") for row in counted)
    assert [row[0] for row in counted] == list(range(1, len(counted) + 1))
    progress = progress_of(db, Campaign.get_by_id(campaign), NOW)
    assert (progress.recipients, progress.pending, progress.skipped) == (500, 477, 23)


def test_skipped_people_do_not_make_batches_smaller(db: Db, campaign: int) -> None:
    stop_mailing(db, add_people_ids(db, "p")[:64:4])
    run = expander(db, campaign, batch_size=64, send_batch_size=10)
    assert run.claim(NOW)
    run.step(NOW)
    assert [(b.pending, b.skipped) for b in Batch.select().order_by(Batch.number)] == [(0, 16), *[(10, 0)] * 4, (8, 0)]


def test_a_campaign_to_people_whom_nobody_may_mail_is_sent_at_once(db: Db, settings: Settings, campaign: int) -> None:
    stop_mailing(db, add_people_ids(db, "p"))
    expand(db, settings, campaign)
    assert Campaign.get_by_id(campaign).status == "sent"
    assert {(b.state, b.pending) for b in Batch.select()} == {("done", 0)}
    assert all(b.finished_at for b in Batch.select())


def test_someone_skipped_on_one_list_is_not_mailed_on_another(db: Db, settings: Settings, campaign: int) -> None:
    """Between two lists they are freed: the first word stands, and nobody is a recipient twice."""
    people = add_people_ids(db, "p")
    stop_mailing(db, people[250:300])
    run = expander(db, campaign, batch_size=1000)
    assert run.claim(NOW)
    run.step(NOW)
    db.run("UPDATE subscribers SET status = 'active', status_reason = NULL")
    while not run.step(NOW).all_done:
        pass
    assert Recipient.select().where(Recipient.campaign_id == campaign).count() == 500
    assert Recipient.select().where(Recipient.state == "skipped").count() == 50


def test_a_small_list_among_many_whom_nobody_may_mail(db: Db, campaign: int) -> None:
    """More of them in the range of ids than the page has members: the members are looked at instead."""
    people = add_people(db, 400, "z")
    stop_mailing(db, people[1:-1])
    add_list(db, "few", [people[0], people[100], people[-1]])
    small = draft(db, ["few"])
    start(db, small)
    run = expander(db, small, batch_size=5)
    assert run.claim(NOW)
    assert run.step(NOW).skipped == 1
    found = db.rows("SELECT subscriber_id, state FROM recipients WHERE campaign_id = ? ORDER BY subscriber_id", small)
    assert found == [(people[0], "pending"), (people[100], "skipped"), (people[-1], "pending")]


def test_the_expansion_remembers_who_had_left_before_it_read_the_members(db: Db, campaign: int) -> None:
    unsubscribe(db, "a", "p1@example.test")
    before = db.rows("SELECT COALESCE(unsubscribed_at, 0) FROM lists ORDER BY id")
    run = expander(db, campaign, batch_size=1000)
    assert run.claim(NOW)
    run.step(NOW)
    unsubscribe(db, "b", "p250@example.test")
    while not run.step(NOW).all_done:
        pass
    assert db.rows("SELECT unsubscribed_seen FROM campaign_lists ORDER BY position") == before
    after = db.rows("SELECT COALESCE(unsubscribed_at, 0) FROM lists ORDER BY id")
    assert [was != now for (was,), (now,) in zip(before, after, strict=True)] == [False, True, False]
